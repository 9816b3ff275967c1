//! The bpf(2) system call, as far as trying a tcx program needs it.
#![allow(unsafe_code)] // bpf(2) has no safe wrapper.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
/// Attach point of tcx at a device's egress (enum bpf_attach_type).
pub const TCX_EGRESS: u32 = 47;
/// Attach point of tcx at a device's ingress.
pub const TCX_INGRESS: u32 = 46;

/// One instruction: struct bpf_insn as the kernel lays it out (code, registers, offset, immediate).
pub type Instruction = u64;

/// `return TCX_NEXT`: leaves every packet to whoever comes next.
pub const LEAVE_ALONE: [Instruction; 2] = [
    instruction(0xb7, 0, 0, -1), // r0 = -1
    instruction(0x95, 0, 0, 0),  // exit
];

/// code, destination and source register (4 bits each), offset, immediate.
pub const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    u64::from_ne_bytes([code, registers, o0, o1, i0, i1, i2, i3])
}

/// The union bpf_attr, zeroed behind what a command uses.
#[repr(C, align(8))]
struct Attributes([u32; 32]);

impl Attributes {
    fn pointer(&mut self, word: usize, address: *const u8) {
        let halves = (address as u64).to_ne_bytes();
        let [a, b, c, d, e, f, g, h] = halves;
        self.0[word] = u32::from_ne_bytes([a, b, c, d]);
        self.0[word + 1] = u32::from_ne_bytes([e, f, g, h]);
    }
}

/// Has the kernel check and load a program for tc.
pub fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let licence = c"GPL";
    let mut attributes = Attributes([0; 32]);
    attributes.0[0] = BPF_PROG_TYPE_SCHED_CLS;
    attributes.0[1] = u32::try_from(program.len()).map_err(io::Error::other)?;
    attributes.pointer(2, program.as_ptr().cast());
    attributes.pointer(4, licence.as_ptr().cast());
    call(BPF_PROG_LOAD, &attributes)
}

/// Attaches a loaded program to a device of the calling thread's namespace for as long as the link's
/// descriptor is open.
pub fn attach(program: &OwnedFd, device: u32, point: u32) -> io::Result<OwnedFd> {
    let mut attributes = Attributes([0; 32]);
    attributes.0[0] = program.as_raw_fd().cast_unsigned();
    attributes.0[1] = device;
    attributes.0[2] = point;
    call(BPF_LINK_CREATE, &attributes)
}

/// Both commands used here answer with a new descriptor.
fn call(command: libc::c_int, attributes: &Attributes) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size` bytes of the attributes, which outlive the call, and what they
    // point at (program and licence), which the callers keep alive until it returns; it writes none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us (close-on-exec) and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
