//! `shop` for containers, which have no libraries: `make build` links it statically.

fn main() -> std::process::ExitCode {
    shop::main()
}
