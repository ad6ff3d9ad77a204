//! The `ast` command. Everything it decides is in [`ast::cli`].

fn main() -> std::process::ExitCode {
    ast::cli::main()
}
