//! NVRTC, the compiler as a library, which needs neither a toolkit nor a host compiler nor a GPU. Opened by its path:
//! it then finds its own parts beside it, whatever the loader is set to.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    fs,
    path::{Path, PathBuf},
    ptr,
};

use libloading::Library;

use super::{Compiled, Kernel, OPTIONS, Target, io_error};

type Handle = *mut c_void;
type GetSize = unsafe extern "C" fn(Handle, *mut usize) -> c_int;
type GetText = unsafe extern "C" fn(Handle, *mut c_char) -> c_int;
type Strings = *const *const c_char;

/// The library and its functions, with the types of nvrtc.h.
pub(crate) struct Nvrtc {
    create: unsafe extern "C" fn(*mut Handle, *const c_char, *const c_char, c_int, Strings, Strings) -> c_int,
    destroy: unsafe extern "C" fn(*mut Handle) -> c_int,
    compile: unsafe extern "C" fn(Handle, c_int, Strings) -> c_int,
    log_size: GetSize,
    log: GetText,
    ptx_size: GetSize,
    ptx: GetText,
    error: unsafe extern "C" fn(c_int) -> *const c_char,
    version: (u32, u32),
    /// Keeps the functions above where they are.
    _library: Library,
}

impl Nvrtc {
    /// Opens a library, or the one in a folder.
    pub(crate) fn open(path: &Path) -> Result<Nvrtc, String> {
        let file = locate(path)?;
        let failed = |e: libloading::Error| format!("{}: {e}", file.display());
        // SAFETY: whoever names the file vouches for it being NVRTC, whose initialisers ask nothing of the caller.
        let library = unsafe { Library::new(&file) }.map_err(failed)?;
        // SAFETY: the function has this type since the first release of NVRTC.
        let version_of: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int =
            unsafe { symbol(&library, c"nvrtcVersion") }.map_err(failed)?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both places may be written.
        let status = unsafe { version_of(&mut major, &mut minor) };
        if status != 0 {
            return Err(format!("{}: nvrtcVersion returned {status}", file.display()));
        }
        // SAFETY: the fields have the types of the functions they are named for, which are those of nvrtc.h.
        let nvrtc = unsafe {
            Nvrtc {
                create: symbol(&library, c"nvrtcCreateProgram").map_err(failed)?,
                destroy: symbol(&library, c"nvrtcDestroyProgram").map_err(failed)?,
                compile: symbol(&library, c"nvrtcCompileProgram").map_err(failed)?,
                log_size: symbol(&library, c"nvrtcGetProgramLogSize").map_err(failed)?,
                log: symbol(&library, c"nvrtcGetProgramLog").map_err(failed)?,
                ptx_size: symbol(&library, c"nvrtcGetPTXSize").map_err(failed)?,
                ptx: symbol(&library, c"nvrtcGetPTX").map_err(failed)?,
                error: symbol(&library, c"nvrtcGetErrorString").map_err(failed)?,
                version: (major.unsigned_abs(), minor.unsigned_abs()),
                _library: library,
            }
        };
        Ok(nvrtc)
    }

    pub(crate) fn version(&self) -> (u32, u32) {
        self.version
    }

    pub(crate) fn compile(&self, kernel: &Kernel, target: &Target) -> Result<Compiled, String> {
        let program = Program::new(self, kernel)?;
        let arch = format!("--gpu-architecture=compute_{}", target.name());
        let status = program.compile(OPTIONS.into_iter().chain([arch.as_str()]))?;
        let log = program.text(self.log_size, self.log)?;
        let what = format!("{}.cu for sm_{}", kernel.stem, target.name());
        self.check(status).map_err(|e| format!("{what}: NVRTC says {e}\n{log}"))?;
        let ptx = program.text(self.ptx_size, self.ptx)?;
        Compiled::new(&ptx, log, target).map_err(|e| format!("{what}: {e}"))
    }

    fn check(&self, status: c_int) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: NVRTC answers any status with a string of its own that is never freed.
        let text = unsafe { CStr::from_ptr((self.error)(status)) };
        Err(text.to_string_lossy().into_owned())
    }
}

/// A source given to NVRTC, freed when dropped.
struct Program<'a> {
    nvrtc: &'a Nvrtc,
    handle: Handle,
}

impl<'a> Program<'a> {
    /// Names are those of the files without a folder, so that the PTX is the same wherever the sources are.
    fn new(nvrtc: &'a Nvrtc, kernel: &Kernel) -> Result<Program<'a>, String> {
        let source = c_string(&kernel.source)?;
        let name = c_string(&format!("{}.cu", kernel.stem))?;
        let headers = c_strings(kernel.headers.values())?;
        let names = c_strings(kernel.headers.keys())?;
        let (texts, keys) = (pointers(&headers), pointers(&names));
        let mut handle = ptr::null_mut();
        // SAFETY: the strings end in zero and outlive the call, which copies them; both lists have as many as is said.
        let status = unsafe {
            (nvrtc.create)(&mut handle, source.as_ptr(), name.as_ptr(), count(&texts), texts.as_ptr(), keys.as_ptr())
        };
        nvrtc.check(status)?;
        Ok(Program { nvrtc, handle })
    }

    /// The status, as the log is wanted whatever it is.
    fn compile<'s>(&self, options: impl Iterator<Item = &'s str>) -> Result<c_int, String> {
        let options = c_strings(options)?;
        let list = pointers(&options);
        // SAFETY: the program is alive; the options end in zero, outlive the call and are as many as is said.
        Ok(unsafe { (self.nvrtc.compile)(self.handle, count(&list), list.as_ptr()) })
    }

    fn text(&self, size_of: GetSize, get: GetText) -> Result<String, String> {
        let mut size = 0;
        // SAFETY: the program is alive and the size may be written.
        self.nvrtc.check(unsafe { size_of(self.handle, &mut size) })?;
        let mut bytes = vec![0_u8; size.max(1)];
        // SAFETY: the program is alive and there is room for the bytes just asked for, the zero at the end included.
        self.nvrtc.check(unsafe { get(self.handle, bytes.as_mut_ptr().cast()) })?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle came from `create` and is not used again.
        let _ = unsafe { (self.nvrtc.destroy)(&mut self.handle) };
    }
}

/// # Safety
///
/// `T` must be the type of the function of that name.
unsafe fn symbol<T: Copy>(library: &Library, name: &CStr) -> Result<T, libloading::Error> {
    // SAFETY: as the caller promises.
    unsafe { library.get::<T>(name) }.map(|s| *s)
}

fn locate(path: &Path) -> Result<PathBuf, String> {
    let mut found = Vec::new();
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(|e| io_error(path, e))? {
            let entry = entry.map_err(|e| io_error(path, e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let windows = name.starts_with("nvrtc64_") && name.ends_with(".dll") && !name.contains(".alt.");
            if windows || name.starts_with("libnvrtc.so") {
                found.push(entry.path());
            }
        }
    } else if path.is_file() {
        found.push(path.to_path_buf());
    }
    found.sort();
    let first =
        found.first().ok_or_else(|| format!("VLC_NVRTC_LIB: there is no NVRTC library at {}", path.display()))?;
    std::path::absolute(first).map_err(|e| io_error(first, e))
}

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|e| e.to_string())
}

fn c_strings(texts: impl Iterator<Item = impl AsRef<str>>) -> Result<Vec<CString>, String> {
    texts.map(|t| c_string(t.as_ref())).collect()
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).collect()
}

/// Of a handful of options or headers.
fn count(list: &[*const c_char]) -> c_int {
    list.len() as c_int
}
