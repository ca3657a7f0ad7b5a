//! The daemon's socket is for its user alone: another user can neither ask a daemon nor be taken for
//! one.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use jetcc::exec::{Ended, Finished};

use crate::harness::farm::{Farm, JETCC};
use crate::harness::processes;
use crate::harness::project::Project;
use crate::harness::wait::until;

/// Somebody else: `nobody` on every Debian machine.
const STRANGER: u32 = 65_534;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn open_up(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Runs `jetcc ARGUMENTS` as the stranger, with the client's environment.
async fn as_stranger(farm: &Farm, arguments: &[&str]) -> Finished {
    let user = STRANGER.to_string();
    let switch = ["--reuid", &user, "--regid", &user, "--clear-groups", "--", JETCC];
    farm.run(Path::new("/"), "setpriv", &[&switch, arguments].concat()).await
}

fn text(done: &Finished) -> String {
    String::from_utf8_lossy(&[&done.stdout[..], &done.stderr].concat()).into_owned()
}

/// Asserts that a process leaves no core file, and that other processes of its user cannot look into
/// it: then its files in `/proc` are root's.
fn check_memory_is_private(id: u32) {
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let limits: Vec<&str> = core.split_whitespace().rev().skip(1).take(2).collect();
    assert_eq!(limits, ["0", "0"], "{core}");
    assert_eq!(fs::metadata(format!("/proc/{id}/environ")).unwrap().uid(), 0);
}

#[tokio::test]
async fn the_roles_keep_their_memory_to_themselves() {
    let mut farm = Farm::builder().start().await;
    farm.add_daemon().await;
    for name in ["scheduler", "worker-1", "client-daemon"] {
        check_memory_is_private(farm.member(name).id());
    }
    farm.finish().await;
}

#[tokio::test]
async fn socket_and_folder_are_private() {
    let mut farm = Farm::builder().start().await;
    let socket = farm.path("run/jetcc/daemon.sock");
    farm.set_variable("JETCC_SERVER_UDS", &socket);
    let project = Project::new(&[("a.c", "int a;\n")]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 1);
    assert_eq!((mode(socket.parent().unwrap()), mode(&socket)), (0o700, 0o600));
    let done = farm.jetcc(Path::new("/"), &["--stop-server"]).await;
    assert_eq!(done.status, Ended::Code(0), "{done:?}");
    until("the socket is gone", async || (!socket.exists()).then_some(())).await;
    farm.finish().await;
}

#[tokio::test]
async fn a_folder_where_others_may_write_is_not_used() {
    let mut farm = Farm::builder().start().await;
    let folder = farm.path("shared");
    fs::create_dir(&folder).unwrap();
    open_up(&folder, 0o777);
    farm.set_variable("JETCC_SERVER_UDS", folder.join("daemon.sock"));
    let refused = farm.jetcc(Path::new("/"), &["--start-server"]).await;
    assert!(text(&refused).contains("others may write into it"), "{}", text(&refused));
    assert_ne!(refused.status, Ended::Code(0));
    // A build goes on without a daemon, and says nothing that the compiler would not say.
    let project = Project::new(&[("a.c", "int a;\n")]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 0);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    farm.finish().await;
}

/// As an ordinary user there is no second user at hand; then the kernel alone decides whom it lets
/// connect, and the modes above are the barrier.
#[tokio::test]
async fn a_stranger_gets_no_answer() {
    if !rustix::process::geteuid().is_root() {
        return strangers_folder_is_refused().await;
    }
    let farm = Farm::builder().start().await;
    let project = Project::new(&[("a.c", "int a;\n")]);
    assert_eq!(project.same(&farm, &["gcc -c a.c"]).await, 1);
    let socket = farm.path("daemon.sock");
    let closed = as_stranger(&farm, &["explain"]).await;
    assert!(!text(&closed).contains("a.c"), "{}", text(&closed));

    // With both modes opened, who connects is still seen.
    open_up(&farm.path(""), 0o755);
    open_up(&socket, 0o666);
    let refused = as_stranger(&farm, &["explain"]).await;
    assert_ne!(refused.status, Ended::Code(0), "{refused:?}");
    assert!(!text(&refused).contains("a.c"), "{}", text(&refused));
    until("the daemon says whom it turned away", async || {
        farm.client_log().contains("belongs to user 65534").then_some(())
    })
    .await;
    open_up(&farm.path(""), 0o700);
    farm.finish().await;
}

#[tokio::test]
async fn a_strangers_daemon_is_not_believed() {
    if !rustix::process::geteuid().is_root() {
        return strangers_folder_is_refused().await;
    }
    let mut farm = Farm::builder().workers(0).start().await;
    open_up(&farm.path(""), 0o755);
    let folder = farm.path("stranger");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(STRANGER), Some(STRANGER)).unwrap();
    let socket = folder.join("daemon.sock");
    farm.set_variable("JETCC_SERVER_UDS", &socket);
    farm.set_variable("JETCC_CONF", "/dev/null");
    farm.set_variable("JETCC_ERROR_LOG", folder.join("log"));
    farm.set_variable("JETCC_CACHE_DIR", folder.join("cache"));
    let started = as_stranger(&farm, &["--start-server"]).await;
    assert_eq!(started.status, Ended::Code(0), "{}", text(&started));
    assert!(UnixStream::connect(&socket).is_ok());
    let [daemon] = &processes::naming(&socket.display().to_string())[..] else {
        panic!("not one daemon")
    };
    check_memory_is_private(daemon.id);

    let refused = farm.jetcc(Path::new("/"), &["--show-stats"]).await;
    assert!(text(&refused).contains("belongs to user 65534"), "{}", text(&refused));
    assert_ne!(refused.status, Ended::Code(0));
    let project = Project::new(&[("a.c", "int a;\n")]);
    project
        .through(&farm, &["gcc -c a.c"])
        .await
        .assert_same(&project.locally(&farm, &["gcc -c a.c"]).await, &[]);
    let asked = as_stranger(&farm, &["--stop-server"]).await;
    assert_eq!(asked.status, Ended::Code(0), "{}", text(&asked));
    assert!(text(&asked).contains("Compile requests"), "{}", text(&asked));
    let compiles =
        text(&asked).lines().find(|line| line.starts_with("Compile requests ")).map(str::to_owned);
    assert!(compiles.unwrap().ends_with(" 0"), "it was asked to compile");
    until("it is gone", async || (!socket.exists()).then_some(())).await;
    farm.finish().await;
}

/// A folder of another user: root's.
async fn strangers_folder_is_refused() {
    let mut farm = Farm::builder().workers(0).start().await;
    farm.set_variable("JETCC_SERVER_UDS", "/usr/daemon.sock");
    let refused = farm.jetcc(Path::new("/"), &["--start-server"]).await;
    assert!(text(&refused).contains("belongs to user 0"), "{}", text(&refused));
    farm.finish().await;
}
