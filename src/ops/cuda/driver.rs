//! Finding the driver and its devices, and opening one.

use std::{panic::catch_unwind, ptr};

use cudarc::driver::{
    result::{self, DriverError},
    sys::{self, CUdevice_attribute_enum as Attribute},
};

use super::{
    error::{During, describe, unavailable},
    images::{self, Arch, PROBE},
};
use crate::error::Error;

/// Every function of the driver that is called without fail. Asked for beforehand, as cudarc panics at one that is missing;
/// all are in CUDA 10.2 and later.
const NEEDED: [&str; 33] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorString",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceTotalMem_v2",
    "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain",
    "cuCtxSetCurrent",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventElapsedTime",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleLoadDataEx",
    "cuModuleGetFunction",
    "cuModuleUnload",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuLaunchKernel",
];

/// The driver and what it shows.
#[derive(Debug)]
pub(super) struct Driver {
    /// The CUDA it is of, for example 13.0.
    pub(super) version: (u32, u32),
    /// At least one.
    pub(super) devices: Vec<Found>,
}

/// A device that has not been opened.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) number: usize,
    pub(super) name: String,
    /// Bytes of memory.
    pub(super) total: u64,
    pub(super) capability: (u32, u32),
    handle: sys::CUdevice,
}

/// Asks for the driver and its devices.
pub(super) fn probe() -> Result<Driver, Error> {
    // SAFETY: opens libcuda.so.1 by name, which runs the constructors of the library that the system has there.
    if !unsafe { sys::is_culib_present() } {
        return Err(unavailable(
            "no NVIDIA driver: libcuda.so.1 was not found; install the driver, and in a container ask for the GPU \
             (docker run --gpus all)",
        ));
    }
    // A stub of the library, or one that is very old, may still panic within cudarc.
    catch_unwind(ask).unwrap_or_else(|_| Err(unavailable("the library libcuda.so.1 is no working NVIDIA driver")))
}

fn ask() -> Result<Driver, Error> {
    if let Some(missing) = NEEDED.iter().find(|name| !has(name)) {
        return Err(unavailable(format!("libcuda.so.1 has no {missing}: update the NVIDIA driver")));
    }
    result::init().map_err(|code| unavailable(format!("the NVIDIA driver does not start: {}", describe(code))))?;
    let mut version = 0;
    // SAFETY: writes one number.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().during("cuDriverGetVersion")?;
    let version = version.unsigned_abs();
    let count = result::device::get_count().during("cuDeviceGetCount")?;
    let devices: Vec<Found> = (0..count).map(find).collect::<Result<_, _>>().during("asking for a device")?;
    if devices.is_empty() {
        return Err(unavailable("the NVIDIA driver shows no device; is CUDA_VISIBLE_DEVICES set?"));
    }
    Ok(Driver { version: (version / 1000, version % 1000 / 10), devices })
}

/// Whether the driver has a function.
fn has(name: &str) -> bool {
    // SAFETY: the library was found; the address is looked up and not called.
    unsafe { sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).is_ok() }
}

fn find(number: i32) -> Result<Found, DriverError> {
    let handle = result::device::get(number)?;
    // SAFETY: the handle is that of a device.
    let total = unsafe { result::device::total_mem(handle) }?;
    let major = attribute(handle, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(handle, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    Ok(Found {
        number: number.unsigned_abs() as usize,
        name: result::device::get_name(handle)?,
        total: total as u64,
        capability: (major, minor),
        handle,
    })
}

fn attribute(handle: sys::CUdevice, which: Attribute) -> Result<u32, DriverError> {
    // SAFETY: the handle is that of a device.
    unsafe { result::device::get_attribute(handle, which) }.map(i32::unsigned_abs)
}

impl Found {
    /// Multiprocessors.
    pub(super) fn processors(&self) -> Result<u32, Error> {
        attribute(self.handle, Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).during("cuDeviceGetAttribute")
    }

    /// Bytes of shared memory that a block can have when it asks for them.
    pub(super) fn shared_limit(&self) -> Result<u32, Error> {
        let asked = attribute(self.handle, Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
        let plain = attribute(self.handle, Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
        Ok(asked.unwrap_or(0).max(plain.during("cuDeviceGetAttribute")?))
    }

    /// What runs on it, the best first.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when nothing does, [`Error::Config`] when only what was asked for does not.
    pub(super) fn targets(&self, only: Option<Arch>) -> Result<Vec<&'static images::Image>, Error> {
        let chosen = images::choose(PROBE, self.capability, only);
        let (major, minor) = self.capability;
        match only {
            _ if !chosen.is_empty() => Ok(chosen),
            Some(only) if !images::choose(PROBE, self.capability, None).is_empty() => Err(Error::Config(format!(
                "VLC_CUDA_ARCH={only}: {} has compute capability {major}.{minor}, which does not run these kernels",
                self.name
            ))),
            _ => Err(unavailable(format!(
                "{} has compute capability {major}.{minor}, for which there are no kernels; there are those for {}",
                self.name,
                images::names(PROBE)
            ))),
        }
    }
}

/// The device of that number, or of those that run kernels the first of the ones with most memory.
pub(super) fn select(devices: &[Found], number: Option<usize>) -> Result<&Found, Error> {
    let count = devices.len();
    if let Some(number) = number {
        let there = match count {
            1 => "is one, number 0".into(),
            _ => format!("are {count}, numbered from 0"),
        };
        let message = || Error::Config(format!("there is no CUDA device number {number}: there {there}"));
        return devices.get(number).ok_or_else(message);
    }
    let rank = |found: &Found| (found.targets(None).is_ok(), found.total);
    // Of equal ones max_by_key takes the last.
    devices.iter().rev().max_by_key(|found| rank(found)).ok_or_else(|| unavailable("there is no device"))
}

/// An opened device: its primary context, which other libraries in the process share, and a stream of our own. Everything
/// runs on that one stream, so memory that is given back may be handed out again while kernels still use it.
pub(super) struct Context {
    device: sys::CUdevice,
    raw: sys::CUcontext,
    stream: sys::CUstream,
}

// SAFETY: the driver's functions may be called from any thread; handles are not tied to the one that made them, and
// `bind` makes the context current wherever it is used.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    pub(super) fn open(found: &Found) -> Result<Context, Error> {
        // SAFETY: the handle is that of a device.
        let raw = unsafe { result::primary_ctx::retain(found.handle) }.during("cuDevicePrimaryCtxRetain")?;
        // Made first, so that a failure below releases the context again.
        let mut context = Context { device: found.handle, raw, stream: ptr::null_mut() };
        context.bind()?;
        // Not the default stream: that one waits for those of other libraries in the process.
        let kind = result::stream::StreamKind::NonBlocking;
        context.stream = result::stream::create(kind).during("cuStreamCreate")?;
        Ok(context)
    }

    /// Makes the context that of the calling thread. Needed before every call: other devices and other libraries do so too.
    pub(super) fn bind(&self) -> Result<(), Error> {
        // SAFETY: the context is retained until `self` is dropped.
        unsafe { result::ctx::set_current(self.raw) }.during("cuCtxSetCurrent")
    }

    /// As [`Context::bind`] where a failure is of no use, and must not hide the last one that was.
    pub(super) fn enter(&self) -> bool {
        // SAFETY: as above.
        unsafe { result::ctx::set_current(self.raw) }.is_ok()
    }

    /// Waits likewise. After a failure of the device it returns at once, and nothing runs any more.
    pub(super) fn settle(&self) {
        if self.enter() {
            // SAFETY: the stream is destroyed with `self` only.
            let _ = unsafe { result::stream::synchronize(self.stream) };
        }
    }

    pub(super) fn stream(&self) -> sys::CUstream {
        self.stream
    }

    /// Waits for all that was started; what failed meanwhile is reported here.
    pub(super) fn synchronize(&self) -> Result<(), Error> {
        self.bind()?;
        // SAFETY: the stream is destroyed with `self` only.
        unsafe { result::stream::synchronize(self.stream) }.during("cuStreamSynchronize")
    }

    /// Free and total bytes of memory.
    pub(super) fn memory(&self) -> Result<(u64, u64), Error> {
        self.bind()?;
        let (free, total) = result::mem_get_info().during("cuMemGetInfo")?;
        Ok((free as u64, total as u64))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // Failures are of no use here: the process may be ending, and the driver with it.
        let entered = self.enter();
        if entered && !self.stream.is_null() {
            // SAFETY: made by `open`, and nobody else has it any more.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
        if entered {
            // Nobody is to find a context that is gone.
            // SAFETY: no context is always a valid one to have.
            let _ = unsafe { result::ctx::set_current(ptr::null_mut()) };
        }
        // Without it (CUDA 10) the context stays until the process ends.
        if has("cuDevicePrimaryCtxRelease_v2") {
            // SAFETY: retained once by `open`.
            let _ = unsafe { result::primary_ctx::release(self.device) };
        }
    }
}

/// Memory of the device, or `None` when there is no room.
pub(super) fn allocate(context: &Context, bytes: usize) -> Result<Option<u64>, Error> {
    context.bind()?;
    // SAFETY: the contents are undefined, which every use of the memory takes into account.
    match unsafe { result::malloc_sync(bytes) } {
        Ok(pointer) => Ok(Some(pointer)),
        Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
        Err(code) => Err(code).during("cuMemAlloc"),
    }
}

/// Gives memory of [`allocate`] back.
pub(super) fn free(context: &Context, blocks: &[u64]) {
    // What was started may still use them.
    context.settle();
    for &block in blocks {
        // SAFETY: from `allocate`, and the pool forgets it with this call.
        let _ = unsafe { result::free_sync(block) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(number: usize, total: u64, capability: (u32, u32)) -> Found {
        Found { number, name: format!("device {number}"), total, capability, handle: 0 }
    }

    #[test]
    fn most_memory_is_the_default() {
        let devices = [found(0, 8, (8, 0)), found(1, 16, (8, 0)), found(2, 16, (9, 0)), found(3, 99, (3, 5))];
        assert_eq!(select(&devices, None).unwrap().number, 1, "the first of equals, and one that runs kernels");
        assert_eq!(select(&devices, Some(3)).unwrap().number, 3);
        assert_eq!(select(&devices[3..], None).unwrap().number, 3, "so that it says why it cannot be used");
        let error = select(&devices, Some(4)).unwrap_err().to_string();
        assert!(error.contains("number 4") && error.contains("are 4"), "{error}");
        assert!(select(&devices[..1], Some(1)).unwrap_err().to_string().contains("is one, number 0"));
    }

    #[test]
    fn devices_without_kernels_say_so() {
        let error = found(0, 8, (3, 5)).targets(None).unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }));
        assert!(error.to_string().contains("3.5") && error.to_string().contains("5.3, 7.5"), "{error}");
        let only = Some(Arch { version: (9, 0), specific: true });
        assert!(matches!(found(0, 8, (8, 0)).targets(only), Err(Error::Config(_))));
        assert_eq!(found(0, 8, (9, 0)).targets(only).unwrap().len(), 1);
        assert!(matches!(found(0, 8, (3, 5)).targets(only), Err(Error::Unavailable { .. })));
    }
}
