"""Compilation of a recorded build by ptxas, for any GPU, present or not: registers, shared memory, spills, tensor core work.

    with recording() as builds:
        module.builds(64, torch.float16)
    compile_build(builds[0], sm=90)

The JIT's own binder turns arguments into types, so the compiled code is that of a launch: 16-byte alignment and divisible
integers are noted, ones and `None` become constants. Triton must not run in its interpreter (`TRITON_INTERPRET` unset before
it is imported).
"""

import hashlib
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

from fastloc.kernels.launch import Build

# shared memory that one block can have, in bytes, by compute capability; 8.9 stands for all consumer GPUs since Ampere
SHARED_LIMIT = {80: 163 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10}
# tensor core instructions: mma of Ampere, wgmma of Hopper (GMMA), tcgen05 of Blackwell (UTC..MMA)
_MMA = re.compile(r"(?:H|I|Q|HG|IG|QG|UTC[A-Z]+)MMA")
# of Hopper's warpgroups, for 16 and for 8 bits
_WARPGROUPS = {"HGMMA", "QGMMA"}
# an opcode stands after the address and perhaps a predicate: `/*0010*/ @!P0 MUFU.EX2 R1, R2 ;`
_OPCODE = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
_DOT = re.compile(r"tt\.dot(?:_scaled)?\b.*?: tensor<[\dx]+x(\w+)>")
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Compiled:
    """One build as machine code. Every instruction of the code counts once, in a loop or not."""

    registers: int
    shared: int  # bytes a block
    stack: int  # bytes a thread
    spill_stores: int
    spill_loads: int
    mma: str  # "HMMA", "HGMMA" …; empty if no tensor core is used
    mma_count: int
    ex2: int
    instructions: int
    dots: int  # `tl.dot`s in the source that tensor cores can take: all but full float32 ones
    ptx: str  # the start of the PTX's SHA-256: equal PTX is equal machine code, from one ptxas


def specialise(build: Build, sm: int) -> tuple[dict[str, str], dict[Any, Any], dict[Any, Any], Any]:
    """Signature, constants, attributes and options, as the JIT would derive them on a GPU of compute capability `sm`.

    Tensors may be on the meta device, where an offset into the storage still counts for alignment. Raises TypeError inside
    the interpreter, and for arguments that do not fit the kernel.
    """
    kernel = build.kernel
    if not isinstance(kernel, JITFunction):
        raise TypeError(f"{kernel.__name__} is no JITFunction: unset TRITON_INTERPRET before triton is imported")
    backend = make_backend(GPUTarget("cuda", sm, 32))
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    # fused multiply-adds as `launch` asks for them
    expected = {**build.constants, "num_warps": build.num_warps, "num_stages": build.num_stages, "enable_fp_fusion": True}
    if build.constants.get("DEPENDENT"):
        expected["launch_pdl"] = True
    bound, specialisation, _ = bind(*build.arguments, **expected)
    options, signature, constants, attributes = kernel._pack_args(backend, expected, bound, specialisation, None)
    return signature, constants, attributes, options


def key(build: Build, sm: int) -> Key:
    """A key that is equal for builds with the same machine code: the kernel, the types of its arguments, constants and options."""
    signature, constants, attributes, _ = specialise(build, sm)
    noted = tuple((place, str(found)) for place, found in sorted(attributes.items()) if found)
    kernel = build.kernel
    fixed = tuple((place, str(value)) for place, value in sorted(constants.items()))
    return (kernel.__module__, kernel.__name__, tuple(signature.items()), noted, fixed, build.num_warps, build.num_stages, sm)


def compile_build(build: Build, sm: int, known: Mapping[str, Compiled] = MappingProxyType({})) -> Compiled:
    """Compile for compute capability `sm` (80, 89, 90 …) and read the machine code. Raises the errors of Triton and ptxas.

    `known` holds earlier results of the same Triton, by `ptx`; their machine code is not read again, because reading takes as
    long as compiling. The PTX names source lines, unless TRITON_DISABLE_LINE_INFO=1.
    """
    signature, constants, attributes, options = specialise(build, sm)
    source = ASTSource(build.kernel, signature, constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", sm, 32), options=options.__dict__)
    ptx = hashlib.sha256(compiled.asm["ptx"].encode()).hexdigest()[:12]
    found = known[ptx] if ptx in known else _read(_disassemble(compiled.asm["cubin"]))
    return replace(found, shared=compiled.metadata.shared, dots=_tensor_core_dots(compiled.asm["ttir"]), ptx=ptx)


def broken_rules(compiled: Compiled, sm: int, *, attention: bool = False) -> list[str]:
    """The broken rules of a shipped configuration; empty if it breaks none. `attention` requires wgmma on Hopper."""
    problems = []
    if compiled.spill_stores or compiled.spill_loads:
        problems.append(f"spills must be 0, got {compiled.spill_stores} stores and {compiled.spill_loads} loads of local memory")
    limit = SHARED_LIMIT.get(sm)
    if limit is not None and compiled.shared > limit:
        problems.append(f"shared memory must be at most {limit} bytes, a block's limit, got {compiled.shared}")
    if compiled.dots and not compiled.mma:
        problems.append(f"dots must use tensor core instructions, got none for {compiled.dots} dots")
    if compiled.dots and attention and sm == 90 and not set(compiled.mma.split("+")) <= _WARPGROUPS:
        problems.append(f"the tensor core instruction of an attention kernel must be HGMMA or QGMMA, got {compiled.mma or 'none'}")
    return problems


def _disassemble(cubin: bytes) -> str:
    """Resource usage and machine code as text, by the tools next to Triton's own ptxas."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump")
        command = [tool, "--dump-resource-usage", "--dump-sass", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, encoding="utf-8").stdout


def _read(assembly: str) -> Compiled:
    usage = re.search(r"REG:(\d+) STACK:(\d+)", assembly)
    if usage is None:
        raise ValueError(f"cuobjdump printed no resource usage: {assembly[:200]!r}")
    # code is padded with NOPs to the end of a cache line
    opcodes = [opcode for opcode in _OPCODE.findall(assembly) if opcode != "NOP"]
    families = [opcode.partition(".")[0] for opcode in opcodes]
    mma = [family for family in families if _MMA.fullmatch(family)]
    return Compiled(
        registers=int(usage.group(1)),
        shared=0,
        stack=int(usage.group(2)),
        spill_stores=families.count("STL"),
        spill_loads=families.count("LDL"),
        mma="+".join(sorted(set(mma))),
        mma_count=len(mma),
        ex2=sum(opcode.startswith("MUFU.EX2") for opcode in opcodes),
        instructions=len(opcodes),
        dots=0,
        ptx="",
    )


def _tensor_core_dots(source: str) -> int:
    """The number of dots in Triton's IR except full float32 ones; Triton prints an "ieee" dot without an inputPrecision."""
    dots = ((line, dot.group(1)) for line in source.splitlines() if (dot := _DOT.search(line)))
    return sum(operand not in ("f32", "f64") or "inputPrecision" in line for line, operand in dots)
