//! Processes that want as much as they can get.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

/// `O_DIRECT` writes whole blocks of this, at addresses that are multiples of it.
const BLOCK: usize = 4096;
const MIB: usize = 1 << 20;

/// Until it is killed.
pub fn busy() {
    loop {
        std::hint::spin_loop();
    }
}

/// Takes a MiB after the other until it is killed.
pub fn hold() {
    let mut held = Vec::new();
    loop {
        held.push(vec![1_u8; MIB]);
        std::hint::black_box(&held);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// 4 MiB past the page cache; says how many milliseconds they took.
pub fn write(folder: &Path) {
    let buffer = vec![0_u8; MIB + BLOCK];
    let aligned = buffer.as_ptr().align_offset(BLOCK);
    let begun = Instant::now();
    let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).custom_flags(direct);
    let written = options.open(folder.join("written")).and_then(|mut file| {
        for _ in 0..4 {
            file.write_all(&buffer[aligned..aligned + MIB])?;
        }
        Ok(())
    });
    match written {
        Ok(()) => println!("{}", begun.elapsed().as_millis()),
        Err(cause) => eprintln!("guest: write: {cause}"),
    }
}
