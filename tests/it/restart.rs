//! A daemon that starts again knows what the one before it knew: which files a command reads, and
//! what is in them; and believes it only as far as it is still true.

use std::fs;

use crate::harness::farm::Farm;
use crate::harness::project::Project;

const COMMANDS: [&str; 2] =
    ["gcc -g -Iinc0 -Iinc1 -c m.c -o m.o", "gcc -Iinc0 -Iinc1 -c n.c -o n.o"];
const SOURCE: &str = "#include <x.h>\n#include \"y.h\"\n\
    #if __has_include(<z.h>)\n#include <z.h>\n#endif\nint all[] = { X, Y };\n";

fn project() -> Project {
    let mut project = Project::new(&[("m.c", SOURCE), ("n.c", SOURCE)]);
    project.write("inc0/empty", b"");
    project.write("inc1/x.h", b"#define X 1\n");
    project.write("inc1/y.h", b"#define Y 1\n");
    project
}

#[tokio::test]
async fn what_a_command_reads_is_known_after_a_restart() {
    let farm = Farm::builder().start().await;
    let project = project();
    assert_eq!(project.same(&farm, &COMMANDS).await, 2);
    farm.stop_daemon().await;
    // The toolchain is asked once by each daemon.
    assert_eq!(project.same(&farm, &COMMANDS[..1]).await, 0);
    let before = farm.childrens_faults();
    assert_eq!(project.same(&farm, &COMMANDS[1..]).await, 0);
    assert_eq!(farm.childrens_faults(), before, "the daemon has started a process");
    let stats = farm.stats().await;
    assert_eq!((stats.hits(), stats.local()), (2, [].into()));
    farm.finish().await;
}

/// Changes something; tells what.
fn change(project: &mut Project, step: usize) -> Option<&'static str> {
    match step {
        0 => project.write("inc0/x.h", b"#define X 2\n"),
        1 => project.write("inc0/z.h", b"int z;\n"),
        2 => project.write("y.h", b"#define Y 3\n"),
        3 => project.write("inc1/y.h", b"#define Y 4\n"),
        4 => {
            for name in ["inc0/x.h", "inc0/z.h", "y.h"] {
                project.remove(name);
            }
            project.write("inc1/y.h", b"#define Y 1\n");
        }
        5 => project.write("inc0/other.h", b""),
        _ => return None,
    }
    let steps = [
        "another header is found first",
        "a test finds something",
        "it is found beside the source",
        "a header that is not read any more has changed",
        "all of that is taken back",
        "a header that nobody asks for is new",
    ];
    Some(steps[step])
}

#[tokio::test]
async fn what_changed_while_the_daemon_was_down_is_noticed() {
    let farm = Farm::builder().start().await;
    let mut project = project();
    assert_eq!(project.same(&farm, &COMMANDS[..1]).await, 1);
    farm.stop_daemon().await;
    for step in 0.. {
        let Some(what) = change(&mut project, step) else { break };
        println!("{what}");
        let remote = project.same(&farm, &COMMANDS[..1]).await;
        assert_eq!(remote, u64::from(step < 3), "{what}");
        farm.stop_daemon().await;
    }
    farm.finish().await;
}

#[tokio::test]
async fn what_is_damaged_is_forgotten() {
    let farm = Farm::builder().start().await;
    let project = project();
    project.same(&farm, &COMMANDS).await;
    let client = farm.path("client");
    for damage in [&b"garbage"[..], b""] {
        farm.stop_daemon().await;
        let kept: Vec<_> = fs::read_dir(client.join("inputs")).unwrap().flatten().collect();
        assert_eq!(kept.len(), COMMANDS.len());
        let tables = ["stamps", "searches"].map(|name| client.join(name));
        for path in kept.iter().map(fs::DirEntry::path).chain(tables) {
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes.splice(middle.., damage.iter().copied());
            fs::write(&path, bytes).unwrap();
        }
        assert_eq!(project.same(&farm, &COMMANDS).await, 0, "the farm knows the results");
    }
    farm.finish().await;
}
