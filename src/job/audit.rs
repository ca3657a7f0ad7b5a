//! A job that runs again elsewhere, to see whether the worker that ran it told the truth.

use serde::{Deserialize, Serialize};

use super::wire::JobMessage;
use super::{Digest, Exit, WorkerId, bounded};

/// Most runs of one job that are kept; the third one decides.
const RUNS_MAX: usize = 8;

/// What is kept of an audit until its next result comes, under the id of the job that brings it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// The job as it was queued for its client.
    pub job: JobMessage,
    /// Who was asked to run it again; nobody yet when absent.
    pub asked: Option<WorkerId>,
    /// What came of it so far: first the result under audit.
    #[serde(deserialize_with = "bounded::list::<_, _, RUNS_MAX>")]
    pub runs: Vec<Run>,
}

/// One run of the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Who ran it, as the server vouches.
    pub worker: WorkerId,
    /// How the compiler ended.
    pub exit: Exit,
    /// [`Outcome::fingerprint`](super::Outcome::fingerprint).
    pub outcome: Digest,
}

/// What the runs say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Two workers agree.
    Passed,
    /// Two workers differ: a third one has to say who is right.
    Unclear,
    /// Two workers agree against this one, which claimed a success.
    Guilty(WorkerId),
    /// Two workers agree against one whose compiler failed: a machine in trouble does no harm,
    /// since a failure is never taken for a result.
    Failed(WorkerId),
    /// Three workers, three results: the compile is not repeatable, and nobody is to blame.
    Unrepeatable,
}

/// What `runs` (two or three, of different workers) say about each other.
pub fn verdict(runs: &[Run]) -> Verdict {
    let odd = match runs {
        [one, two] if one.outcome == two.outcome => return Verdict::Passed,
        [_, _] => return Verdict::Unclear,
        [one, two, three] if one.outcome == three.outcome => two,
        [one, two, three] if two.outcome == three.outcome => one,
        _ => return Verdict::Unrepeatable,
    };
    if odd.exit.is_success() {
        Verdict::Guilty(odd.worker.clone())
    } else {
        Verdict::Failed(odd.worker.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(worker: &str, code: u8, outcome: &str) -> Run {
        let (worker, exit) = (worker.parse().unwrap(), Exit::Code(code));
        Run { worker, exit, outcome: Digest::of(outcome.as_bytes()) }
    }

    #[test]
    fn the_majority_decides() {
        let [a, b, c] = [run("a", 0, "x"), run("b", 0, "x"), run("c", 0, "y")];
        let guilty = Verdict::Guilty("c".parse().unwrap());
        assert_eq!(verdict(&[a.clone(), b.clone()]), Verdict::Passed);
        assert_eq!(verdict(&[a.clone(), c.clone()]), Verdict::Unclear);
        assert_eq!(verdict(&[a.clone(), c.clone(), b.clone()]), guilty);
        assert_eq!(verdict(&[c, a, b]), guilty);
    }

    #[test]
    fn nobody_is_to_blame_for_what_is_not_repeatable_or_did_not_work() {
        let [a, b, c] = [run("a", 0, "x"), run("b", 0, "y"), run("c", 0, "z")];
        assert_eq!(verdict(&[a.clone(), b, c]), Verdict::Unrepeatable);
        let (killed, d) = (run("b", 1, "killed"), run("d", 0, "x"));
        assert_eq!(verdict(&[a, killed, d]), Verdict::Failed("b".parse().unwrap()));
    }

    #[test]
    fn a_success_that_two_others_fail_is_a_lie() {
        let runs = [run("liar", 0, "object"), run("a", 1, "error"), run("b", 1, "error")];
        assert_eq!(verdict(&runs), Verdict::Guilty("liar".parse().unwrap()));
    }
}
