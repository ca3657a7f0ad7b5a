//! Which files a crate is compiled into.
//!
//! Names from `rustc_session::output` and `rustc_session::config::OutputFilenames`: the crate's name
//! and the extra part of it, with a prefix and a suffix by kind and platform. Oracle tests hold them
//! against the compiler's own.

use std::collections::BTreeSet;

use super::fold::Seen;
use crate::job::{LocalReason, WantedOutput};

/// What of a platform is in the names of its files.
#[derive(Clone, Copy, Debug)]
struct Platform {
    program_suffix: &'static str,
    library: (&'static str, &'static str),
}

/// The platform of a target's name; `None` where a link writes more than one file, or nobody knows.
fn platform(target: Option<&str>) -> Option<Platform> {
    const UNIX: Platform = Platform { program_suffix: "", library: ("lib", ".so") };
    const WASM: Platform = Platform { program_suffix: ".wasm", library: ("", ".wasm") };
    let Some(target) = target else { return Some(UNIX) };
    let is = |system: &str| target.split('-').any(|part| part.starts_with(system));
    if target.ends_with(".json")
        || ["apple", "avr", "emscripten", "uefi", "windows"].iter().any(|it| is(it))
    {
        None
    } else if target.starts_with("wasm") {
        Some(WASM)
    } else if ["linux", "android", "freebsd", "netbsd", "openbsd", "none"].iter().any(|it| is(it)) {
        Some(UNIX)
    } else {
        None
    }
}

/// Kinds of files that are written one for each part of the crate, unless it has one part.
const PARTS: [(&str, &str); 5] =
    [("asm", "s"), ("llvm-bc", "bc"), ("llvm-ir", "ll"), ("mir", "mir"), ("obj", "o")];

/// Every file that the command writes; the rule of dependencies is last, so that who sees it sees
/// the others.
///
/// # Errors
/// Why nobody knows them beforehand.
pub(super) fn wanted(seen: &Seen<'_>, name: &str) -> Result<Vec<WantedOutput>, LocalReason> {
    let emit = &seen.emit;
    if seen.output.is_some() && (emit.len() > 1 || seen.crate_types.len() > 1) {
        return Err(LocalReason::Flag("-o with several outputs".into()));
    }
    // One of them counts, and which one is the compiler's affair.
    let is_second = |at: usize| emit[..at].iter().any(|(kind, _)| *kind == emit[at].0);
    if let Some(at) = (0..emit.len()).find(|at| is_second(*at)) {
        return Err(LocalReason::Flag(format!("--emit {} twice", emit[at].0)));
    }
    let stem = format!("{name}{}", seen.extra_filename);
    let place = |file: String| match seen.out_dir {
        Some(folder) if !folder.is_empty() => format!("{}/{file}", folder.trim_end_matches('/')),
        _ => file,
    };
    let (mut files, mut debug, mut rules) = (Vec::new(), Vec::new(), Vec::new());
    for (kind, path) in emit {
        let explicit = path.or(seen.output).map(str::to_owned);
        if matches!(explicit.as_deref(), Some("-" | "")) {
            return Err(LocalReason::OutputTarget("-".into()));
        }
        match *kind {
            "link" => {
                let made = linked(seen, &stem, explicit, &place)?;
                let is_program = |file: &&String| !file.ends_with(".rlib") && !file.ends_with(".a");
                let programs = made.iter().filter(|_| seen.packs_debug).filter(is_program);
                debug.extend(programs.map(|file| format!("{file}.dwp")));
                files.extend(made);
            }
            "metadata" => {
                files.push(explicit.unwrap_or_else(|| place(format!("lib{stem}.rmeta"))));
            }
            "dep-info" => rules.push(explicit.unwrap_or_else(|| place(format!("{stem}.d")))),
            other => {
                let Some((_, suffix)) = PARTS.iter().find(|(known, _)| *known == other) else {
                    return Err(LocalReason::Flag(format!("--emit {other}")));
                };
                if seen.units.is_some_and(|units| units != "1") || seen.optimises_linked {
                    return Err(LocalReason::Flag(format!("--emit {other} of several parts")));
                }
                files.push(explicit.unwrap_or_else(|| place(format!("{stem}.{suffix}"))));
            }
        }
    }
    check_scratch(seen, files.iter().chain(&rules))?;
    let required = |path| WantedOutput { path, required: true };
    let mut wanted: Vec<WantedOutput> = files.into_iter().map(required).collect();
    wanted.extend(debug.into_iter().map(|path| WantedOutput { path, required: false }));
    wanted.extend(rules.into_iter().map(required));
    match wanted.iter().enumerate().find(|(at, file)| wanted[..*at].contains(file)) {
        Some((_, twice)) => Err(LocalReason::OutputTarget(twice.path.clone())),
        None => Ok(wanted),
    }
}

/// The compiler puts its temporary files into the folder of the outputs, whatever paths they have; on a
/// worker it can write where it leaves something.
fn check_scratch<'f>(
    seen: &Seen<'_>,
    mut files: impl Iterator<Item = &'f String>,
) -> Result<(), LocalReason> {
    let is_folder = |folder: &str| folder.trim_end_matches('/') == scratch(seen);
    match files.any(|file| is_folder(file.rsplit_once('/').map_or("", |(folder, _)| folder))) {
        true => Ok(()),
        false => Err(LocalReason::Flag("--emit into other folders than --out-dir".into())),
    }
}

/// The folder of temporary files, as written; empty for the working directory.
fn scratch<'a>(seen: &Seen<'a>) -> &'a str {
    let given = seen.out_dir.or_else(|| Some(seen.output?.rsplit_once('/')?.0));
    given.unwrap_or_default().trim_end_matches('/')
}

/// What each kind of crate is linked into; equal kinds are one to the compiler.
fn linked(
    seen: &Seen<'_>,
    stem: &str,
    explicit: Option<String>,
    place: &dyn Fn(String) -> String,
) -> Result<Vec<String>, LocalReason> {
    let mut files = Vec::new();
    let kinds = kinds(seen).iter().map(|kind| if *kind == "lib" { "rlib" } else { kind });
    for kind in kinds.collect::<BTreeSet<_>>() {
        let known = platform(seen.target);
        let platform = || {
            known.ok_or_else(|| LocalReason::Flag(format!("--crate-type {kind} for this target")))
        };
        let file = match kind {
            "rlib" => format!("lib{stem}.rlib"),
            "bin" => format!("{stem}{}", platform()?.program_suffix),
            "dylib" | "cdylib" | "proc-macro" => {
                let (prefix, suffix) = platform()?.library;
                format!("{prefix}{stem}{suffix}")
            }
            "staticlib" => {
                platform()?;
                format!("lib{stem}.a")
            }
            other => return Err(LocalReason::Flag(format!("--crate-type {other}"))),
        };
        files.push(explicit.clone().unwrap_or_else(|| place(file)));
    }
    Ok(files)
}

/// The kinds of crates that are made. Where no word says it the source may, which is rare: then a
/// worker's compile writes other files than these, and the crate stays here.
pub(super) fn kinds<'s>(seen: &'s Seen<'_>) -> &'s [&'s str] {
    match seen.is_test || seen.crate_types.is_empty() {
        true => &["bin"],
        false => &seen.crate_types,
    }
}
