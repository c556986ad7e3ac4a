//! The parameters of a kernel, read from its PTX: the driver does not tell their sizes before CUDA 12.4.

/// Bytes of each parameter of a kernel, or `None` when there is no such kernel or it is not understood.
pub(super) fn signature(ptx: &str, kernel: &str) -> Option<Vec<usize>> {
    let entry = ptx.split(".entry").skip(1).find_map(|text| {
        let rest = text.trim_start().strip_prefix(kernel)?;
        // Not that of a kernel whose name only starts so.
        rest.starts_with(|c: char| c.is_whitespace() || "({".contains(c)).then(|| rest.trim_start())
    })?;
    let Some(list) = entry.strip_prefix('(') else {
        return Some(Vec::new());
    };
    // An alignment has no parentheses, so the first ends the list.
    let (list, _) = list.split_once(')')?;
    list.split(',').map(str::trim).filter(|param| !param.is_empty()).map(size).collect()
}

/// Bytes of a declaration such as `.param .align 8 .b8 name[24]` or `.param .u64 .ptr .align 1 name`.
fn size(declaration: &str) -> Option<usize> {
    let words = declaration.strip_prefix(".param")?;
    let one = words.split_whitespace().find_map(|word| match word {
        ".b8" | ".u8" | ".s8" => Some(1),
        ".b16" | ".u16" | ".s16" | ".f16" => Some(2),
        ".b32" | ".u32" | ".s32" | ".f32" => Some(4),
        ".b64" | ".u64" | ".s64" | ".f64" => Some(8),
        _ => None,
    })?;
    match words.split_once('[') {
        None => Some(one),
        Some((_, rest)) => one.checked_mul(rest.split_once(']')?.0.trim().parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = "
.version 8.0
.target sm_90a
.address_size 64
.visible .entry first_long(
\t.param .u64 first_long_param_0
)
{ ret; }
\t// .globl\tfirst
.visible .entry first(
\t.param .u64 first_param_0,
\t.param .u64 .ptr .align 1 first_param_1,
\t.param .align 8 .b8 first_param_2[24],
\t.param .align 64 .b8 first_param_3[128],
\t.param .f32 first_param_4,
\t.param .u8 first_param_5
)
.maxntid 128, 1, 1
{ ret; }
.visible .entry none()
{ ret; }
.visible .entry bare {
ret; }
.visible .entry odd(.param .texref t) { ret; }
";

    #[test]
    fn parameters_are_read() {
        assert_eq!(signature(PTX, "first"), Some(vec![8, 8, 24, 128, 4, 1]));
        assert_eq!(signature(PTX, "first_long"), Some(vec![8]));
        assert_eq!(signature(PTX, "none"), Some(Vec::new()));
        assert_eq!(signature(PTX, "bare"), Some(Vec::new()));
    }

    #[test]
    fn what_is_not_there_or_not_known_is_none() {
        assert_eq!(signature(PTX, "fir"), None);
        assert_eq!(signature(PTX, "odd"), None);
        assert_eq!(signature("", "first"), None);
    }

    #[test]
    fn probes_have_no_parameters() {
        for image in super::super::images::PROBE {
            assert_eq!(signature(image.ptx, "probe"), Some(Vec::new()));
        }
    }
}
