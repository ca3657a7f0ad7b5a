//! What belongs to a gcc: its own passes, assembler, specs, and the folders it looks for.

use super::ask::Asked;
use super::parts::{Parts, file, include_directories, search_directories};
use super::{Resolved, ToolchainError};

/// Passes and tools; a C compiler without the first two cannot compile.
const REQUIRED: [&str; 2] = ["cc1", "as"];
/// `objcopy` splits debug information; `-v` names the last two when they are there.
const OPTIONAL: [&str; 3] = ["objcopy", "collect2", "lto-wrapper"];
/// Read at every start when they are there; the plugin is named on the compiler's command line.
const FILES: [&str; 2] = ["specs", "liblto_plugin.so"];

pub(super) async fn parts(compiler: &Resolved, asked: &Asked) -> Result<Parts, ToolchainError> {
    let mut parts =
        Parts { programs: vec![compiler.executable.display().to_string()], ..Parts::default() };
    for name in REQUIRED {
        if !parts.add_program(&compiler.search_path, asked, name).await? {
            let compiler = compiler.executable.display().to_string();
            return Err(ToolchainError::MissingPart { compiler, part: name.to_owned() });
        }
    }
    parts.cplusplus = parts.add_program(&compiler.search_path, asked, "cc1plus").await?;
    for name in OPTIONAL {
        parts.add_program(&compiler.search_path, asked, name).await?;
    }
    for name in FILES {
        parts.files.extend(file(asked, name).await?);
    }
    let (answer, _) = asked.answer(&["-print-search-dirs"]).await?;
    parts.directories = search_directories(&answer);
    // A `specs` file or another pass that appears later shows as a change of its folder.
    parts.watched.extend(parts.directories.first().cloned());
    let languages: &[&str] = if parts.cplusplus { &["c", "c++"] } else { &["c"] };
    for language in languages {
        let (_, answer) = asked.answer(&["-v", "-E", "-x", language, "/dev/null"]).await?;
        parts.directories.extend(include_directories(&answer));
    }
    Ok(parts)
}
