//! Where the kernel's own code in this process is.

use std::ops::Range;

/// The addresses of the vDSO; empty if there is none.
pub(super) fn range() -> Range<u64> {
    // SAFETY: asks for a value that the kernel left at the start of the process.
    let base = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    if base == 0 {
        return 0..0;
    }
    // SAFETY: the kernel has mapped an ELF image there, whose header is at its beginning, and its
    // program headers where that says; all of it stays for as long as the process runs.
    let segments = unsafe {
        let header = base as *const libc::Elf64_Ehdr;
        let table = (base + (*header).e_phoff) as *const libc::Elf64_Phdr;
        std::slice::from_raw_parts(table, usize::from((*header).e_phnum))
    };
    let loaded = segments.iter().filter(|segment| segment.p_type == libc::PT_LOAD);
    let size = loaded.map(|segment| segment.p_vaddr + segment.p_memsz).max().unwrap_or(0);
    base..base + size
}
