mod crash;
mod disk;
mod faults;
mod history;
mod machine;
