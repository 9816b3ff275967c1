//! `shop`, linked as every other program here.

fn main() -> std::process::ExitCode {
    shop::main()
}
