#!/usr/bin/env bash
# Installs the compiler that the files of cuda/ptx are made with: NVRTC, a library that needs neither GPU nor driver nor
# toolkit. Prints what to set:
#
#     eval "$(cuda/get-nvrtc.sh [--ptxas] [FOLDER])"
#
# sets VLC_NVRTC_LIB and, with --ptxas, PTXAS, an assembler newer than the PTX. FOLDER is target/nvrtc unless given.
# Needs python3 with venv and pip. The version is also in crates/xtask/src/main.rs.
set -euo pipefail

packages=(nvidia-cuda-nvrtc-cu12==12.6.85)
folder=$(dirname "${BASH_SOURCE[0]}")/../target/nvrtc
ptxas=
for arg in "$@"; do
    case $arg in
    --ptxas)
        ptxas=1
        packages+=(nvidia-cuda-nvcc-cu12==12.9.86)
        ;;
    -*)
        printf 'usage: eval "$(%s [--ptxas] [FOLDER])"\n' "$0" >&2
        exit 2
        ;;
    *) folder=$arg ;;
    esac
done

# What it prints must hold in any folder.
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
python=$folder/bin/python
[ -x "$python" ] || python3 -m venv "$folder" >&2
"$python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" >&2

site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia
lib=$site/cuda_nvrtc/lib
[ -d "$lib" ] || { printf '%s: no library in %s\n' "$0" "$lib" >&2; exit 1; }
printf 'export VLC_NVRTC_LIB=%q\n' "$lib"
if [ -n "$ptxas" ]; then
    # Wheels do not always keep the mode.
    chmod +x "$site/cuda_nvcc/bin/ptxas"
    printf 'export PTXAS=%q\n' "$site/cuda_nvcc/bin/ptxas"
fi
