//! Subjects are read back as they were written.

use super::*;

#[test]
fn requests_name_their_client() {
    let client: ClientId = "c-1".parse().unwrap();
    let subject = request(&client, Question::Cancel);
    assert_eq!(subject, "farm.c.c-1.cancel");
    assert_eq!(parse_request(&subject), Some((client, Question::Cancel)));
    assert_eq!(parse_request("farm.c.c-1.delete"), None);
    assert_eq!(parse_request("farm.c.C.submit"), None);
}

#[test]
fn jobs_name_their_tenant_and_lane() {
    let pool = Pool::of_this_machine();
    let subject = job(&pool, Lane::Bulk, &"t1".parse().unwrap());
    assert_eq!(parse_job(&subject), Some(("b", "t1")));
    let consumers = consumers_of(&subject).unwrap();
    assert_eq!(consumers, [format!("{pool}-b"), format!("{pool}-b-p")]);
    let audited = audit(&pool, &"w-1".parse().unwrap());
    assert_eq!(consumers_of(&audited).unwrap(), ["AUDIT-w-1"]);
    assert_eq!(consumers_of("results.a.b.c"), None);
}

#[test]
fn deliveries_are_read_from_both_forms_and_from_nothing_else() {
    let wanted = Delivery { consumer: "p-n", deliveries: 3, place: 10 };
    for subject in [
        "$JS.ACK.JOBS.p-n.3.10.2.1700000000.5",
        "$JS.ACK._.HASH.JOBS.p-n.3.10.2.1700000000.5",
        "$JS.ACK._.HASH.JOBS.p-n.3.10.2.1700000000.5.abc",
    ] {
        assert_eq!(parse_delivery(subject), Some(wanted), "{subject}");
    }
    for subject in [
        "odd",
        "$JS.ACK.RESULTS.p-n.3.10.2.1700000000.5",
        "$JS.ACK.JOBS.p-n.3.10.2.1700000000",
        "$JS.ACK.JOBS.p-n.3.*.2.1700000000.5",
        "$JS.API.STREAM.DELETE.JOBS",
        "$JS.ACK.JOBS.p-n.3.10.2.1700000000.x",
    ] {
        assert_eq!(parse_delivery(subject), None, "{subject}");
    }
}

#[test]
fn results_name_client_job_and_worker() {
    let job = JobId::random().unwrap();
    let (client, worker) = ("c-1".parse().unwrap(), "w-1".parse().unwrap());
    let subject = result(&client, job, &worker);
    assert_eq!(parse_job_id(&subject), Some(job));
    assert_eq!(parse_result(&subject), Some((client.clone(), worker)));
    assert_eq!(parse_waiting(&waiting(job, &client, job)), Some((client.clone(), job)));
    assert_eq!(parse_job_id(&progress(&client, job)), Some(job));
    assert_eq!(parse_job_id(&cancel(job)), Some(job));
    assert_eq!(parse_result(&progress(&client, job)), None);
}

#[test]
fn everybody_who_is_kept_out_has_a_key() {
    for (kind, name) in [("worker", "w-1"), ("user", "a.b *>@ä"), ("tenant", "t")] {
        let party = Party::read(kind, name).unwrap();
        let key = denied_key(&party);
        assert!(!key.contains(['*', '>', ' ']), "{key}");
        assert_eq!(parse_denied_key(&key), Some(party));
    }
    assert_eq!(parse_denied_key("user.zz"), None);
    assert_eq!(parse_denied_key("host.a"), None);
}
