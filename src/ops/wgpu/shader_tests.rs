//! Every kernel, without a device: what all devices of WebGPU have is enough for it, the host names it as the shader does, and
//! both lay out its parameters alike.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use naga::{
    AddressSpace, GlobalVariable, Module, Scalar, ShaderStage, TypeInner,
    back::pipeline_constants::process_overrides,
    front::wgsl,
    valid::{Capabilities, ModuleInfo, ValidationFlags, Validator},
};

use super::{
    assign, encode, fit,
    kernel::{Kernel, Source},
    mlp, project, reduce, rows, score, update,
};
use crate::ops::layout::{Layout, layouts};

/// What every device of WebGPU has: invocations of a workgroup, bytes that they share, storage buffers of a kernel.
const MOST_INVOCATIONS: u32 = 256;
const MOST_SHARED: u32 = 16_384;
const MOST_STORAGE: usize = 8;

fn kernels() -> Vec<&'static Kernel> {
    [
        assign::KERNELS,
        encode::KERNELS,
        fit::KERNELS,
        mlp::KERNELS,
        project::KERNELS,
        reduce::KERNELS,
        rows::KERNELS,
        score::KERNELS,
        update::KERNELS,
    ]
    .concat()
}

/// The shaders of all kernels, by name.
fn sources() -> BTreeMap<&'static str, &'static str> {
    let mut sources = BTreeMap::new();
    for Source { name, text } in kernels().iter().map(|kernel| kernel.source) {
        assert_eq!(sources.insert(*name, *text).unwrap_or(text), *text, "two shaders are named {name}");
    }
    sources
}

/// Refuses all that a device need not have, subgroups for one.
fn parse(Source { name, text }: &Source) -> (Module, ModuleInfo) {
    let module = wgsl::parse_str(text).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(text)));
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(text)));
    (module, info)
}

/// The kernel alone, its constants put in (naga can with what wgpu makes shaders of), and the variables that it uses.
fn compile(kernel: &Kernel) -> (Module, Vec<GlobalVariable>) {
    let (module, info) = parse(kernel.source);
    let constants = kernel.constants.iter().map(|&(name, value)| (name.to_string(), value)).collect();
    let (module, info) = process_overrides(&module, &info, Some((ShaderStage::Compute, kernel.entry)), &constants)
        .unwrap_or_else(|e| panic!("{} of {}: {e}", kernel.entry, kernel.source.name));
    let names: Vec<&str> = module.entry_points.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, [kernel.entry], "{}", kernel.source.name);
    let uses = info.get_entry_point(0);
    let used = module.global_variables.iter().filter(|(handle, _)| !uses[*handle].is_empty());
    let used = used.map(|(_, variable)| variable.clone()).collect();
    (module.into_owned(), used)
}

#[test]
fn every_shader_belongs_to_a_kernel() {
    let sources = sources();
    let folders = ["shaders", "shaders/shared"].map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|file| file.unwrap().path());
    for path in files.filter(|path| path.is_file()) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(sources.values().any(|source| source.contains(&text)), "no kernel is of {}", path.display());
    }
}

/// With [`compile`]: kernels are listed and spelt as the entry points are.
#[test]
fn every_entry_point_is_a_kernel() {
    let named: BTreeSet<_> = kernels().iter().map(|kernel| (kernel.source.name, kernel.entry)).collect();
    for (name, text) in sources() {
        for entry in parse(&Source { name, text }).0.entry_points {
            assert!(named.contains(&(name, entry.name.as_str())), "{name}: no kernel is {}", entry.name);
        }
    }
}

#[test]
fn kernels_do_with_what_every_device_has() {
    for kernel in kernels() {
        let (module, used) = compile(kernel);
        let name = format!("{} of {}", kernel.entry, kernel.source.name);
        let invocations: u32 = module.entry_points[0].workgroup_size.iter().product();
        assert!((1..=MOST_INVOCATIONS).contains(&invocations), "{name}: {invocations} invocations");
        let size = |variable: &GlobalVariable| module.types[variable.ty].inner.size(module.to_ctx());
        let shared = used.iter().filter(|variable| variable.space == AddressSpace::WorkGroup);
        // As WebGPU counts.
        let shared: u32 = shared.map(|variable| size(variable).next_multiple_of(16)).sum();
        assert!(shared <= MOST_SHARED, "{name}: {shared} bytes of workgroup memory");
        let storage = used.iter().filter(|variable| matches!(variable.space, AddressSpace::Storage { .. })).count();
        assert!(storage <= MOST_STORAGE, "{name}: {storage} storage buffers");
        for binding in used.iter().filter_map(|variable| variable.binding) {
            assert_eq!(binding.group, 0, "{name}: group of binding {}", binding.binding);
        }
        let uniforms = used.iter().filter(|variable| variable.space == AddressSpace::Uniform);
        let uniforms: Vec<_> = uniforms.map(|variable| variable.binding.map(|at| at.binding)).collect();
        assert_eq!(uniforms, [Some(0)], "{name}: bindings of uniforms");
    }
}

#[test]
fn host_and_shaders_lay_out_parameters_alike() {
    let layouts = layouts();
    let mut compared = BTreeSet::new();
    for kernel in kernels() {
        let (module, used) = compile(kernel);
        for uniform in used.iter().filter(|variable| variable.space == AddressSpace::Uniform) {
            let ours = layout(&module, uniform);
            let theirs = layouts.iter().find(|theirs| theirs.0 == ours.0);
            assert_eq!(Some(&ours), theirs, "{} of {}", kernel.entry, kernel.source.name);
            compared.extend(theirs.map(|theirs| theirs.0));
        }
    }
    assert_eq!(compared, layouts.iter().map(|layout| layout.0).collect(), "structures that shaders have");
}

fn layout<'a>(module: &'a Module, uniform: &GlobalVariable) -> Layout<'a> {
    let r#type = &module.types[uniform.ty];
    let TypeInner::Struct { members, span } = &r#type.inner else { panic!("a uniform is no structure") };
    let fields = members.iter().map(|member| {
        let its_type = match module.types[member.ty].inner {
            TypeInner::Scalar(Scalar::U32) => "u32",
            TypeInner::Scalar(Scalar::F32) => "f32",
            _ => "not a scalar of 4 bytes",
        };
        (member.name.as_deref().unwrap(), its_type, member.offset as usize)
    });
    (r#type.name.as_deref().unwrap(), *span as usize, fields.collect())
}
