//! Kernels: loaded when first asked for, and launched.

use std::{
    collections::HashMap,
    ffi::{CStr, CString, c_void},
    marker::PhantomData,
    ptr,
    sync::{Arc, Mutex},
};

use bytemuck::{NoUninit, Pod};
use cudarc::driver::{
    result::{self, DriverError},
    sys::{self, CUfunction_attribute_enum as Attribute, CUjit_option_enum as Jit, CUresult},
};

use super::{
    buffer::Buffer,
    driver::Context,
    error::{During, describe, failure, lock, misuse, unavailable},
    images::{Arch, Image, choose, names},
    signature::signature,
};
use crate::error::Error;

/// Parameters of a kernel at most.
const MAX_ARGS: usize = 48;

/// Bytes of a parameter at most.
const MAX_BYTES: usize = 256;

/// Shared memory that a block may have without asking, its static part counted in.
const PLAIN_SHARED: u32 = 48 << 10;

/// A parameter of a kernel, by value. Its size must be that of the kernel's own, which [`Kernels::launch`] checks.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Arg<'a> {
    bytes: [u8; MAX_BYTES],
    len: usize,
    buffer: PhantomData<&'a ()>,
}

impl Arg<'static> {
    /// A struct as the kernel declares it, `repr(C)`.
    pub(super) fn of<T: NoUninit>(value: &T) -> Arg<'static> {
        const { assert!(size_of::<T>() <= MAX_BYTES, "too large for an argument") }
        Arg::raw(bytemuck::bytes_of(value))
    }

    /// A pointer to nothing.
    pub(super) fn null() -> Arg<'static> {
        Arg::of(&0u64)
    }
}

impl<'a> Arg<'a> {
    /// The address of a value within a buffer, or of its end.
    pub(super) fn at<T: Pod>(buffer: &'a Buffer<T>, start: usize) -> Arg<'a> {
        debug_assert!(start <= buffer.len());
        Arg::raw(&(buffer.pointer() + (start * size_of::<T>()) as u64).to_ne_bytes())
    }

    /// As many as fit, which is all: both callers see to it.
    fn raw(value: &[u8]) -> Arg<'a> {
        let mut bytes = [0; MAX_BYTES];
        let len = value.len().min(MAX_BYTES);
        bytes[..len].copy_from_slice(&value[..len]);
        Arg { bytes, len, buffer: PhantomData }
    }
}

impl<'a, T: Pod> From<&'a Buffer<T>> for Arg<'a> {
    fn from(buffer: &'a Buffer<T>) -> Arg<'a> {
        Arg::at(buffer, 0)
    }
}

/// As of a shared one; for calls that want to show that the kernel writes to it.
impl<'a, T: Pod> From<&'a mut Buffer<T>> for Arg<'a> {
    fn from(buffer: &'a mut Buffer<T>) -> Arg<'a> {
        Arg::at(buffer, 0)
    }
}

macro_rules! scalars {
    ($($kind:ty)*) => {$(
        impl From<$kind> for Arg<'static> {
            fn from(value: $kind) -> Arg<'static> {
                Arg::of(&value)
            }
        }
    )*};
}

scalars!(u32 i32 u64 f32);

/// The kernels of a device that have been asked for so far.
pub(super) struct Kernels {
    context: Arc<Context>,
    capability: (u32, u32),
    /// The driver's, for messages.
    driver: (u32, u32),
    only: Option<Arch>,
    /// The best that the driver is known to take, once that has been asked.
    best: Option<Arch>,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<Key, Module>,
    functions: HashMap<(Key, Key), Function>,
}

/// Address and length of what is there as long as the process.
type Key = (usize, usize);

fn key<T>(of: &'static [T]) -> Key {
    (of.as_ptr().addr(), of.len())
}

struct Module {
    raw: sys::CUmodule,
    image: &'static Image,
}

struct Function {
    raw: sys::CUfunction,
    /// Bytes of each parameter.
    sizes: Vec<usize>,
    /// Dynamic shared memory that blocks may have so far.
    shared: u32,
}

// SAFETY: handles of the driver are not tied to a thread.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Send for Function {}

impl Kernels {
    pub(super) fn new(
        context: Arc<Context>,
        capability: (u32, u32),
        driver: (u32, u32),
        only: Option<Arch>,
    ) -> Kernels {
        Kernels { context, capability, driver, only, best: None, loaded: Mutex::default() }
    }

    /// Loads a list and says for which architecture.
    pub(super) fn load(&self, stem: &'static [Image]) -> Result<Arch, Error> {
        self.context.bind()?;
        Ok(self.module(&mut lock(&self.loaded), stem)?.1.target())
    }

    /// No image better than this is loaded from now on.
    pub(super) fn restrict(&mut self, to: Arch) {
        self.best = Some(to);
    }

    /// See [`super::device::Device::launch`].
    pub(super) fn launch(
        &self,
        stem: &'static [Image],
        name: &'static str,
        grid: [u32; 3],
        block: u32,
        shared: u32,
        args: &[Arg<'_>],
    ) -> Result<(), Error> {
        if grid.contains(&0) {
            return Ok(());
        }
        self.context.bind()?;
        let mut loaded = lock(&self.loaded);
        let function = self.function(&mut loaded, stem, name)?;
        function.check(name, args)?;
        if shared > function.shared {
            let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function belongs to a module that is unloaded with `self` only.
            let set = unsafe { result::function::set_function_attribute(function.raw, attribute, shared as i32) };
            set.during_of("cuFuncSetAttribute", name)?;
            function.shared = shared;
        }
        let mut pointers = [ptr::null_mut::<c_void>(); MAX_ARGS];
        for (pointer, arg) in pointers.iter_mut().zip(args) {
            *pointer = arg.bytes.as_ptr().cast_mut().cast();
        }
        let (grid, block) = ((grid[0], grid[1], grid[2]), (block, 1, 1));
        let stream = self.context.stream();
        // SAFETY: there is a value of the right size for every parameter (`check`); the driver copies them before it returns.
        // The kernels are this crate's own; they reach device memory alone, which the host never has references to, and
        // the buffers among the arguments outlive the launch on the one stream there is.
        let started = unsafe { result::launch_kernel(function.raw, grid, block, shared, stream, &mut pointers) };
        started.during_of("cuLaunchKernel", name)
    }

    fn function<'l>(
        &self,
        loaded: &'l mut Loaded,
        stem: &'static [Image],
        name: &'static str,
    ) -> Result<&'l mut Function, Error> {
        let which = (key(stem), key(name.as_bytes()));
        if !loaded.functions.contains_key(&which) {
            let (module, image) = self.module(loaded, stem)?;
            let missing = || misuse(format!("there is no kernel {name} for {}", image.target()));
            let sizes = signature(image.ptx, name).ok_or_else(missing)?;
            let text = CString::new(name).map_err(|_| missing())?;
            // SAFETY: the module is unloaded with `self` only.
            let raw = unsafe { result::module::get_function(module, text) };
            let raw = raw.during_of("cuModuleGetFunction", name)?;
            let attribute = Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
            // SAFETY: as above.
            let fixed = unsafe { result::function::get_function_attribute(raw, attribute) };
            let fixed = fixed.during_of("cuFuncGetAttribute", name)?.unsigned_abs();
            loaded.functions.insert(which, Function { raw, sizes, shared: PLAIN_SHARED.saturating_sub(fixed) });
        }
        loaded.functions.get_mut(&which).ok_or_else(|| misuse(format!("kernel {name} was not kept")))
    }

    /// The best image that the driver takes.
    fn module(&self, loaded: &mut Loaded, stem: &'static [Image]) -> Result<(sys::CUmodule, &'static Image), Error> {
        if let Some(module) = loaded.modules.get(&key(stem)) {
            return Ok((module.raw, module.image));
        }
        let mut refused = Vec::new();
        let mut images = choose(stem, self.capability, self.only);
        images.retain(|image| self.best.is_none_or(|best| image.target() <= best));
        for image in images {
            match load(image) {
                Ok(raw) => {
                    loaded.modules.insert(key(stem), Module { raw, image });
                    return Ok((raw, image));
                }
                Err((code, log)) if is_refusal(code) => {
                    let (target, version) = (image.target(), image.version());
                    log::warn!("the driver refuses kernels for {target} in PTX {version}: {:?} {log}", code.0);
                    refused.push(format!("those for {target} in PTX {version}: {:?} {log}", code.0));
                }
                Err((code, log)) => {
                    let what = format!("cuModuleLoadDataEx of the kernels for {}", image.target());
                    return Err(failure(what, format!("{} {log}", describe(code))));
                }
            }
        }
        let (major, minor) = self.driver;
        let why = if refused.is_empty() { format!("there are only {}", names(stem)) } else { refused.join("; ") };
        let what = format!("the driver (CUDA {major}.{minor}) takes none of the kernels");
        if self.best.is_none() {
            return Err(unavailable(format!("{what}; update it: {why}")));
        }
        Err(failure(what, why))
    }
}

impl Function {
    /// A kernel reads as many bytes of each argument as it declares, whatever it is given.
    fn check(&self, name: &str, args: &[Arg<'_>]) -> Result<(), Error> {
        if args.len() != self.sizes.len() || args.len() > MAX_ARGS {
            let (has, given) = (self.sizes.len(), args.len());
            return Err(misuse(format!(
                "kernel {name} has {has} parameters and was given {given} (at most {MAX_ARGS})"
            )));
        }
        match args.iter().zip(&self.sizes).position(|(arg, &size)| arg.len != size) {
            None => Ok(()),
            Some(i) => {
                let (has, given) = (self.sizes[i], args[i].len);
                Err(misuse(format!("parameter {i} of kernel {name} has {has} bytes and was given {given}")))
            }
        }
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        self.context.settle();
        for module in lock(&self.loaded).modules.values() {
            // SAFETY: loaded once, and nothing that runs uses it any more.
            let _ = unsafe { result::module::unload(module.raw) };
        }
    }
}

/// Whether another image may be taken instead.
fn is_refusal(code: DriverError) -> bool {
    matches!(
        code.0,
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
            | CUresult::CUDA_ERROR_INVALID_PTX
            | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
            | CUresult::CUDA_ERROR_JIT_COMPILER_NOT_FOUND
    )
}

/// Compiles an image for the device of the current context. An error comes with what the compiler said.
fn load(image: &Image) -> Result<sys::CUmodule, (DriverError, String)> {
    let mut text = Vec::with_capacity(image.ptx.len() + 1);
    text.extend_from_slice(image.ptx.as_bytes());
    text.push(0);
    let mut log = [0u8; 4096];
    let mut options = [Jit::CU_JIT_ERROR_LOG_BUFFER, Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // The size goes where a pointer would.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), ptr::without_provenance_mut(log.len())];
    let mut module = ptr::null_mut();
    // SAFETY: the text ends with a zero; the log has the size that is said, and both outlive the call.
    let code = unsafe {
        sys::cuModuleLoadDataEx(
            &mut module,
            text.as_ptr().cast(),
            options.len() as u32,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    code.result().map_err(|code| (code, said(&log)))?;
    Ok(module)
}

fn said(log: &[u8]) -> String {
    CStr::from_bytes_until_nul(log).map_or(String::new(), |text| text.to_string_lossy().trim().replace('\n', "; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, bytemuck::NoUninit)]
    #[repr(C)]
    struct Shape {
        rows: u32,
        scale: f32,
        first: u64,
    }

    fn bytes<'a>(arg: &'a Arg<'_>) -> &'a [u8] {
        &arg.bytes[..arg.len]
    }

    #[test]
    fn arguments_hold_their_value() {
        assert_eq!(bytes(&Arg::from(7u32)), 7u32.to_ne_bytes());
        assert_eq!(bytes(&Arg::from(-7i32)), (-7i32).to_ne_bytes());
        assert_eq!(bytes(&Arg::from(1u64 << 40)), (1u64 << 40).to_ne_bytes());
        assert_eq!(bytes(&Arg::from(0.5f32)), 0.5f32.to_ne_bytes());
        assert_eq!(bytes(&Arg::null()), [0; 8]);
        let shape = Shape { rows: 3, scale: 2.0, first: 9 };
        assert_eq!(bytes(&Arg::of(&shape)), bytemuck::bytes_of(&shape));
        assert_eq!(bytes(&Arg::of(&[1u8; MAX_BYTES])), [1; MAX_BYTES]);
    }

    #[test]
    fn arguments_must_be_those_of_the_kernel() {
        let function = Function { raw: ptr::null_mut(), sizes: vec![8, 4], shared: 0 };
        assert!(function.check("k", &[Arg::null(), Arg::from(1u32)]).is_ok());
        let error = function.check("k", &[Arg::null(), Arg::null()]).unwrap_err().to_string();
        assert!(error.contains("parameter 1 of kernel k has 4 bytes and was given 8"), "{error}");
        let error = function.check("k", &[Arg::null()]).unwrap_err().to_string();
        assert!(error.contains("has 2 parameters and was given 1"), "{error}");
    }
}
