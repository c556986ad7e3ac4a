pub(crate) mod crash;
pub(crate) mod disk;
pub(crate) mod faults;
pub(crate) mod history;
pub(crate) mod machine;
