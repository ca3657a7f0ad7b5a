//! Programs that attack the sandbox from inside, in every kind of sandbox that this machine can
//! build: what they may see, reach and become. The programs are `tests/data/hostile/*.c`.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use super::*;
use crate::worker::sandbox::{Calls, Users};

const FRAME: &str = include_str!("../../../tests/data/hostile/hostile.h");
const FILES: &str = include_str!("../../../tests/data/hostile/files.c");
const NETWORK: &str = include_str!("../../../tests/data/hostile/network.c");
const OUTPUTS: &str = include_str!("../../../tests/data/hostile/outputs.c");
const RIGHTS: &str = include_str!("../../../tests/data/hostile/rights.c");
const TERMINAL: &str = include_str!("../../../tests/data/hostile/terminal.c");

/// A program in the place of a compiler.
pub(super) struct Hostile {
    kit: Kit,
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Hostile {
    /// Compiles it with the gcc of this machine, without shared libraries.
    pub(super) async fn compile(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().to_str().unwrap().to_owned();
        std::fs::write(folder.path().join("hostile.h"), FRAME).unwrap();
        std::fs::write(folder.path().join("hostile.c"), text).unwrap();
        let line = ["-static", "-O1", "-w", "hostile.c", "-o", "hostile"];
        let done = local("/usr/bin/gcc", &line, &directory).await;
        assert_eq!(done.status, Ended::Code(0), "{}", String::from_utf8_lossy(&done.stderr));
        let program = folder.path().join("hostile");
        let mut kit = Kit::default();
        kit.add("/usr/bin/gcc", std::fs::read(&program).unwrap(), true);
        Self { kit, program, folder }
    }

    /// The job in which it tries what `words` say.
    pub(super) fn job(&self, words: &str) -> Recipe {
        let references = vec![reference("reference", b"x")];
        let outputs = vec![WantedOutput { path: "a.o".into(), required: false }];
        Recipe { references, outputs, ..Recipe::new(self.kit.clone(), words) }
    }

    /// What it prints here, outside of any sandbox: the attacks have to be good ones.
    async fn outside(&self, words: &str) -> String {
        std::fs::write(self.folder.path().join("a.c"), words).unwrap();
        let directory = self.folder.path().to_str().unwrap();
        let line = ["-c", "a.c", "-o", "a.o"];
        let done = local(self.program.to_str().unwrap(), &line, directory).await;
        String::from_utf8(done.stdout).unwrap()
    }
}

fn escaped(printed: &str) -> Vec<&str> {
    printed.lines().filter_map(|line| line.strip_prefix("ESCAPED ")).collect()
}

/// Asserts that at least `tries` attacks were made and none got through.
fn all_held(bench: &Bench, printed: &str, tries: usize) {
    assert_eq!(escaped(printed), [""; 0], "{:?}: {printed}", bench.mode);
    let held = printed.lines().filter(|line| line.starts_with("held ")).count();
    assert!(held >= tries, "{:?}: {held} tries, wanted {tries}: {printed}", bench.mode);
}

#[tokio::test]
async fn a_compile_cannot_read_the_workers_home_other_jobs_credentials_or_caches() {
    let hostile = Hostile::compile(FILES).await;
    for bench in Bench::every(|_| {}).await {
        let secret = bench.folder.path().join("token");
        std::fs::write(&secret, "secret").unwrap();
        let mut paths = vec![secret.to_str().unwrap().to_owned()];
        assert_eq!(escaped(&hostile.outside(&format!("read {}", paths[0])).await).len(), 1);
        paths.extend(["/etc/passwd", "/etc/shadow", "/etc/hostname"].map(str::to_owned));
        // The job's own folder, and those of others beside it, under their names on this machine.
        let build = bench.cache().join("build");
        paths.extend([build.join("lock"), build.join("root-0/root/usr/bin/gcc")].map(shown));
        paths.extend(
            ["/proc/1/root", "/proc/self/cwd/../../..", "/proc/self/root/.."]
                .map(|start| format!("{start}{}", paths[0])),
        );
        let printed = bench.printed(&hostile.job(&format!("read {}", paths.join(" ")))).await;
        all_held(&bench, &printed, paths.len());
        bench.is_clean().await;
    }
}

fn shown(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_compile_cannot_read_the_workers_environment() {
    let hostile = Hostile::compile(FILES).await;
    // The harness of every test has it.
    let words = "environ worker::tests PATH=/usr/local/bin:/usr/bin:/bin:/home";
    for bench in Bench::every(|_| {}).await {
        all_held(&bench, &bench.printed(&hostile.job(words)).await, 2);
        bench.is_clean().await;
    }
    let own = std::fs::read_to_string("/proc/self/cmdline").unwrap();
    let word = own.split_terminator('\0').next().unwrap().to_owned();
    assert_eq!(escaped(&hostile.outside(&format!("environ {word}")).await).len(), 1);
}

#[tokio::test]
async fn a_compile_cannot_change_the_toolchain_the_inputs_or_the_caches() {
    let hostile = Hostile::compile(FILES).await;
    for bench in Bench::every(|_| {}).await {
        let job = hostile.job("write /usr/bin/gcc /w/i/h.h /x/h.h /usr /");
        let inputs = job.inputs.clone().file("/w/i/h.h", "header").file("/x/h.h", "header too");
        let job = Recipe { inputs, ..job };
        all_held(&bench, &bench.printed(&job).await, 50);
        // Both jobs use the same files of the caches.
        all_held(&bench, &bench.printed(&job).await, 50);
        bench.is_clean().await;
    }
}

#[tokio::test]
async fn a_compile_cannot_reach_the_network_or_a_socket_of_this_machine() {
    let hostile = Hostile::compile(NETWORK).await;
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _unix = UnixListener::bind(&path).unwrap();
    let name = format!("jetcc-{}", folder.path().file_name().unwrap().to_str().unwrap());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    let port = tcp.local_addr().unwrap().port();
    let words = format!("{port} {} {name}", path.to_str().unwrap());
    let outside = hostile.outside(&words).await;
    for reached in ["tcp", "unix socket", "abstract socket"] {
        assert!(escaped(&outside).contains(&reached), "{reached}: {outside}");
    }
    for bench in Bench::every(|_| {}).await {
        let printed = bench.printed(&hostile.job(&words)).await;
        // A socket for raw packets of a network that has no device is no way out.
        let filtered = bench.mode.calls == Calls::Filtered;
        let printed = if filtered { printed } else { printed.replace("ESCAPED raw", "held raw") };
        all_held(&bench, &printed, 7);
        bench.is_clean().await;
    }
}

#[tokio::test]
async fn a_compile_cannot_gain_rights_trace_others_or_touch_the_kernel() {
    let hostile = Hostile::compile(RIGHTS).await;
    for bench in Bench::every(|_| {}).await {
        all_held(&bench, &bench.printed(&hostile.job("rights")).await, 18);
        bench.is_clean().await;
    }
}

#[tokio::test]
async fn a_compile_cannot_make_system_calls_that_no_compiler_makes() {
    let hostile = Hostile::compile(RIGHTS).await;
    let mut filtered = 0;
    for bench in Bench::every(|_| {}).await {
        let printed = bench.printed(&hostile.job("calls")).await;
        if bench.mode.calls == Calls::Filtered {
            all_held(&bench, &printed, 38);
            filtered += 1;
        } else {
            assert!(escaped(&printed).len() > 20, "{printed}");
            let makes_one = escaped(&printed).contains(&"user namespace");
            assert_eq!(makes_one, bench.mode.users != Users::OwnAndLast, "{printed}");
        }
        bench.is_clean().await;
    }
    assert!(filtered > 0);
}

#[tokio::test]
async fn a_compile_cannot_type_into_a_terminal_or_have_one_as_its_own() {
    let hostile = Hostile::compile(TERMINAL).await;
    let terminal = Some(Terminal { columns: 80, input: Some(80) });
    let job = |words| Recipe { terminal, ..hostile.job(words) };
    for bench in Bench::every(|_| {}).await {
        all_held(&bench, &bench.printed(&job("open")).await, 9);
        let printed = bench.printed(&job("ask")).await;
        match bench.mode.calls {
            Calls::Filtered => all_held(&bench, &printed, 7),
            Calls::Free => assert!(escaped(&printed).len() > 3, "{printed}"),
        }
        bench.is_clean().await;
    }
}

#[tokio::test]
async fn a_compile_cannot_pass_anything_but_a_file_as_its_output() {
    let hostile = Hostile::compile(OUTPUTS).await;
    for bench in Bench::every(|_| {}).await {
        for what in ["symlink", "dangling", "pipe", "folder"] {
            let outcome = bench.outcome(&hostile.job(what)).await;
            assert_eq!(outcome.outputs, [], "{what}");
            assert_eq!(outcome.unexpected[0].as_str(), "/w/a.o", "{what}");
        }
        for what in ["device", "hardlink", "socket"] {
            let outcome = bench.outcome(&hostile.job(what)).await;
            assert_eq!(outcome.outputs, [], "{what}");
            // Without the filter it may make a socket, which is no output either.
            let refused = outcome.unexpected.is_empty();
            assert!(refused || (what, bench.mode.calls) == ("socket", Calls::Free), "{what}");
        }
        bench.is_clean().await;
    }
}

#[tokio::test]
async fn a_compile_cannot_pass_an_output_that_nobody_asked_for() {
    let hostile = Hostile::compile(OUTPUTS).await;
    for bench in Bench::every(|_| {}).await {
        let outcome = bench.outcome(&hostile.job("another")).await;
        let names: Vec<_> = outcome.outputs.iter().map(|output| &*output.path).collect();
        assert_eq!(names, ["a.o"]);
        let surprises: Vec<_> = outcome.unexpected.iter().map(|path| path.as_str()).collect();
        assert_eq!(surprises, ["/w/other.o"]);
        all_held(&bench, &bench.printed(&hostile.job("elsewhere")).await, 3);
        bench.is_clean().await;
    }
}
