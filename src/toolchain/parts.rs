//! What belongs to a compiler, as a list of paths; and reading compilers' answers about it.

use std::path::Path;

use super::ToolchainError;
use super::ask::Asked;
use super::resolve::is_program;

/// Paths as the compiler spells them.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Programs, whose libraries belong to the toolchain too.
    pub(super) programs: Vec<String>,
    /// Files that are only read.
    pub(super) files: Vec<String>,
    /// Directories whose existence decides where the compiler looks; absent ones are skipped.
    pub(super) directories: Vec<String>,
    /// Paths whose appearing or changing would change what the compiler does.
    pub(super) watched: Vec<String>,
    /// Whether it compiles C++.
    pub(super) cplusplus: bool,
}

impl Parts {
    /// Adds the program `name` from where the compiler finds it, its own folders or else
    /// `search_path`, and says whether there is one. A program that appears earlier there is a change.
    pub(super) async fn add_program(
        &mut self,
        search_path: &str,
        asked: &Asked,
        name: &str,
    ) -> Result<bool, ToolchainError> {
        let found = asked.line(&format!("-print-prog-name={name}")).await?;
        if found.contains('/') {
            let exists = Path::new(&found).is_file();
            self.programs.extend(exists.then_some(found));
            return Ok(exists);
        }
        for folder in search_path.split(':').filter(|folder| folder.starts_with('/')) {
            let path = Path::new(folder).join(&found);
            let Some(text) = path.to_str().map(str::to_owned) else { continue };
            if is_program(&path) {
                self.programs.push(text);
                return Ok(true);
            }
            self.watched.push(text);
        }
        Ok(false)
    }
}

/// Where the compiler finds its file `name`, if it does.
pub(super) async fn file(asked: &Asked, name: &str) -> Result<Option<String>, ToolchainError> {
    let found = asked.line(&format!("-print-file-name={name}")).await?;
    Ok((found.contains('/') && Path::new(&found).is_file()).then_some(found))
}

/// The folders of `-print-search-dirs`: `install: /x`, `programs: =/a:/b`, `libraries: =/c`.
pub(super) fn search_directories(answer: &str) -> Vec<String> {
    let lists = answer.lines().filter_map(|line| line.split_once(": "));
    lists
        .flat_map(|(_, list)| list.trim_start_matches('=').split(':'))
        .filter(|folder| folder.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

/// The include folders in what `-v -E` wrote to stderr.
pub(super) fn include_directories(answer: &str) -> Vec<String> {
    answer
        .lines()
        .skip_while(|line| !line.starts_with("#include \"...\" search starts here"))
        .take_while(|line| !line.starts_with("End of search list"))
        .filter_map(|line| line.strip_prefix(' '))
        .filter(|folder| folder.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

/// What follows `label` on each line of an answer that starts with it.
pub(super) fn labelled<'a>(answer: &'a str, label: &'a str) -> impl Iterator<Item = &'a str> {
    answer.lines().filter_map(move |line| line.strip_prefix(label)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let answer = "install: /i/\nprograms: =/a/:/b/../c/\nlibraries: =/d\n";
        assert_eq!(search_directories(answer), ["/i/", "/a/", "/b/../c/", "/d"]);
        let answer = "ignoring nonexistent directory \"/x\"\n\
            #include \"...\" search starts here:\n \
            #include <...> search starts here:\n /a/../b\n /c\n /f (framework directory)\n\
            End of search list.\n /no\n";
        assert_eq!(include_directories(answer)[..2], ["/a/../b", "/c"]);
        let answer = "Found candidate GCC installation: /g/12\nSelected GCC installation: /g/12\n";
        assert!(labelled(answer, "Found candidate GCC installation:").eq(["/g/12"]));
    }
}
