//! Kernels: entry points of shaders, made ready when first started.

use std::sync::Arc;

use bytemuck::NoUninit;
use wgpu::{
    BindGroupDescriptor, BindGroupEntry, BindGroupLayout, BindingResource, BufferBinding, BufferSize,
    ComputePassDescriptor, ComputePipelineDescriptor, PipelineCompilationOptions, ShaderModuleDescriptor,
    ShaderRuntimeChecks, ShaderSource,
};

use super::{
    buffer::Bind,
    device::{Device, SLOT},
    error::{DRIVER, failure, lock},
};
use crate::error::Error;

/// Iterations that the loops of an invocation may have in all: Mesa's llvmpipe ends every loop after 65,535, and says nothing.
pub(super) const ITERATIONS: usize = 60_000;

/// A shader.
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

/// A shader of these files of shaders/, one behind the other; what they are named is its name.
macro_rules! source {
    ($first:literal $(, $more:literal)*) => {
        Source {
            name: concat!($first $(, " + ", $more)*),
            text: concat!(
                include_str!(concat!("../../../shaders/", $first, ".wgsl"))
                $(, include_str!(concat!("../../../shaders/", $more, ".wgsl")))*
            ),
        }
    };
}
pub(super) use source;

/// An entry point of a shader, and what its `override` constants are. Each module lists its own for shader_tests.rs.
pub(super) struct Kernel {
    pub(super) source: &'static Source,
    pub(super) entry: &'static str,
    pub(super) constants: &'static [(&'static str, f64)],
}

/// Shader, entry point, constants.
pub(super) type PipelineKey = (&'static str, &'static str, Vec<u64>);

pub(super) struct Pipeline {
    raw: wgpu::ComputePipeline,
    layout: BindGroupLayout,
}

impl Kernel {
    fn key(&self) -> PipelineKey {
        (self.source.name, self.entry, self.constants.iter().map(|(_, value)| value.to_bits()).collect())
    }
}

impl Device {
    /// Starts a kernel, after all that was started before. `params` are its uniform at binding 0, `bindings` its storage.
    pub(super) fn launch<P: NoUninit>(
        &self,
        kernel: &Kernel,
        groups: [u32; 3],
        params: &P,
        bindings: &[(u32, &dyn Bind)],
    ) -> Result<(), Error> {
        let pipeline = self.pipeline(kernel)?;
        let most = self.limits.max_compute_workgroups_per_dimension;
        if groups.iter().any(|&g| g == 0 || g > most) || size_of::<P>() > SLOT {
            return Err(failure(format!(
                "{}: {groups:?} groups of 1 to {most}, {} bytes of parameters of {SLOT}",
                kernel.entry,
                size_of::<P>()
            )));
        }
        let mut pending = lock(&self.pending);
        self.make_room(&mut pending);
        let at = pending.params.len();
        pending.params.extend_from_slice(bytemuck::bytes_of(params));
        pending.params.resize(at + SLOT, 0);
        let uniform =
            BufferBinding { buffer: &self.uniforms, offset: at as u64, size: BufferSize::new(size_of::<P>() as u64) };
        let mut entries = vec![BindGroupEntry { binding: 0, resource: BindingResource::Buffer(uniform) }];
        entries.extend(
            bindings
                .iter()
                .map(|&(binding, buffer)| BindGroupEntry { binding, resource: buffer.bound().as_entire_binding() }),
        );
        let group = self.raw.create_bind_group(&BindGroupDescriptor {
            label: Some(kernel.entry),
            layout: &pipeline.layout,
            entries: &entries,
        });
        // What is wrong with it would come up again with all that is sent together.
        if let Err(e) = self.check() {
            pending.params.truncate(at);
            return Err(e);
        }
        self.record(&mut pending, |to| {
            let mut pass =
                to.begin_compute_pass(&ComputePassDescriptor { label: Some(kernel.entry), timestamp_writes: None });
            pass.set_pipeline(&pipeline.raw);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
        });
        drop(pending);
        self.check()
    }

    /// Compiles a kernel, if it has not been.
    pub(super) fn prepare(&self, kernel: &Kernel) -> Result<(), Error> {
        self.pipeline(kernel).map(|_| ())
    }

    fn pipeline(&self, kernel: &Kernel) -> Result<Arc<Pipeline>, Error> {
        let mut pipelines = lock(&self.pipelines);
        let key = kernel.key();
        if let Some(pipeline) = pipelines.get(&key) {
            return Ok(Arc::clone(pipeline));
        }
        let _alone = lock(&DRIVER);
        let module = self.module(kernel.source)?;
        let raw = self.raw.create_compute_pipeline(&ComputePipelineDescriptor {
            label: Some(kernel.entry),
            layout: None,
            module: &module,
            entry_point: Some(kernel.entry),
            compilation_options: PipelineCompilationOptions {
                constants: kernel.constants,
                // Kernels write what they read.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        self.check()?;
        let pipeline = Arc::new(Pipeline { layout: raw.get_bind_group_layout(0), raw });
        self.check()?;
        pipelines.insert(key, Arc::clone(&pipeline));
        Ok(pipeline)
    }

    fn module(&self, source: &Source) -> Result<wgpu::ShaderModule, Error> {
        let mut modules = lock(&self.modules);
        if let Some(module) = modules.get(source.name) {
            return Ok(module.clone());
        }
        let descriptor =
            ShaderModuleDescriptor { label: Some(source.name), source: ShaderSource::Wgsl(source.text.into()) };
        // SAFETY: the shaders of this crate index within the buffers that their host side binds (each says how many values it is
        // given, and every index is held against that), loop a bounded number of times and divide by nothing that is 0.
        // Checks of that by the device took up to a hundred times as long (gfx-rs/wgpu#7698).
        let module = unsafe { self.raw.create_shader_module_trusted(descriptor, ShaderRuntimeChecks::unchecked()) };
        self.check()?;
        modules.insert(source.name, module.clone());
        Ok(module)
    }
}
