use super::*;
use crate::codec::history::{LINE_MAX, Line as Told, open as open_line};
use crate::codec::ledger::tests::sample;
use crate::model::Happening;

fn json(seq: u64) -> String {
    encode(&of_record(&sample(seq, "web", Happening::Stopped)).unwrap())
}

fn add(history: &mut History, seqs: impl IntoIterator<Item = u64>) {
    for seq in seqs {
        history.append(&[Line { seq, json: &json(seq), carried: true }]).unwrap();
    }
}

fn fresh(state: &Path) -> History {
    History::open(state, std::iter::empty()).unwrap().0
}

fn everything() -> Query {
    Query { entries_max: 100_000, bytes_max: 100_000_000, ..Query::default() }
}

fn seqs(state: &Path, query: &Query) -> Vec<u64> {
    let page = read(state, query).unwrap();
    let seq = |raw: &serde_json::value::RawValue| {
        serde_json::from_str::<crate::codec::json::HistoryEntry>(raw.get()).unwrap().seq
    };
    page.entries.iter().map(|raw| seq(raw)).collect()
}

fn bytes_on_disk(state: &Path) -> u64 {
    [NAME, BEFORE].iter().filter_map(|name| fs::metadata(state.join(name)).ok()).map(|file| file.len()).sum()
}

#[test]
fn five_thousand_entries_are_kept_and_what_goes_is_said() {
    let state = tempfile::tempdir().unwrap();
    let mut history = fresh(state.path());
    add(&mut history, 1..=5_000);
    assert_eq!(seqs(state.path(), &everything()), (1..=5_000).collect::<Vec<_>>());
    assert_eq!(read(state.path(), &everything()).unwrap().forgotten, 0);
    add(&mut history, 5_001..=10_001);
    assert_eq!(seqs(state.path(), &everything()), (5_001..=10_001).collect::<Vec<_>>());
    assert_eq!(read(state.path(), &everything()).unwrap().forgotten, 5_000);
    assert!(bytes_on_disk(state.path()) <= 2 * BYTES_MAX + LINE_MAX as u64);
    assert_eq!(fresh(state.path()).last_seq(), 10_001);
}

#[test]
fn long_entries_are_bounded_by_their_bytes() {
    let state = tempfile::tempdir().unwrap();
    let mut history = fresh(state.path());
    let long = |seq| format!("{{\"seq\":{seq},\"cause\":\"{}\"}}", "x".repeat(9_000));
    for seq in 1..=1_000 {
        history.append(&[Line { seq, json: &long(seq), carried: false }]).unwrap();
        assert!(bytes_on_disk(state.path()) <= 2 * BYTES_MAX, "{seq}");
    }
    assert!(seqs(state.path(), &everything()).len() > 230);
    assert_eq!(seqs(state.path(), &everything()).last(), Some(&1_000));
}

#[test]
fn a_unit_that_floods_pushes_out_its_own() {
    let state = tempfile::tempdir().unwrap();
    let mut history = fresh(state.path());
    let of = |seq, unit: &str| encode(&of_record(&sample(seq, unit, Happening::Stopped)).unwrap());
    for seq in 1..=20_000 {
        // A few of one, and then what another one's users wrote, as long as they could make it.
        let json = match seq {
            100..200 => of(seq, "api"),
            15_000.. => format!("{{\"seq\":{seq},\"unit\":\"web\",\"cause\":\"{}\"}}", "x".repeat(3_000)),
            _ => of(seq, "web"),
        };
        history.append(&[Line { seq, json: &json, carried: true }]).unwrap();
        if seq == 5_000 || seq == 17_000 {
            // Over a restart of supd, and over a crash after the first step.
            let now = fs::read(state.path().join(NAME)).unwrap();
            history = fresh(state.path());
            history.rotate().unwrap();
            fs::write(state.path().join(NAME), now).unwrap();
            history = fresh(state.path());
            assert_eq!(history.last_seq(), seq);
        }
    }
    assert!(bytes_on_disk(state.path()) <= 2 * BYTES_MAX);
    let api = Query { unit: Some("api".into()), ..everything() };
    assert_eq!(seqs(state.path(), &api), (100..200).collect::<Vec<_>>());
    assert_eq!(seqs(state.path(), &Query { newest: true, ..api }), (100..200).collect::<Vec<_>>());
    let all = seqs(state.path(), &everything());
    assert_eq!((all[99], *all.last().unwrap()), (199, 20_000));
    assert!(all.is_sorted_by(|one, next| one < next));
    let page = read(state.path(), &everything()).unwrap();
    assert_eq!((page.scattered, page.forgotten), (100, all[100] - 1), "only the flood has gaps");
}

#[test]
fn a_batch_longer_than_a_file_is_spread() {
    let state = tempfile::tempdir().unwrap();
    let mut history = fresh(state.path());
    let lines: Vec<(u64, String)> = (1..=12_000).map(|seq| (seq, json(seq))).collect();
    let lines: Vec<Line<'_>> =
        lines.iter().map(|(seq, json)| Line { seq: *seq, json, carried: true }).collect();
    history.append(&lines).unwrap();
    history.append(&lines).unwrap();
    assert_eq!(seqs(state.path(), &everything()), (5_001..=12_000).collect::<Vec<_>>());
}

#[test]
fn a_torn_end_is_cut_and_made_again_from_the_ledger() {
    let state = tempfile::tempdir().unwrap();
    let mut history = fresh(state.path());
    add(&mut history, 1..=3);
    let path = state.path().join(NAME);
    let whole = fs::read(&path).unwrap();
    let third = whole.len() - seal(&json(3)).len();
    let ledger: Vec<Entry> = (1..=4).map(|seq| sample(seq, "web", Happening::Stopped)).collect();
    for cut in third..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (history, found) = History::open(state.path(), ledger.iter()).unwrap();
        assert_eq!((found.torn, found.last.unwrap().seq), (cut - third, 2));
        assert_eq!(history.last_seq(), 4);
        assert_eq!(seqs(state.path(), &everything()), [1, 2, 3, 4], "cut at {cut}");
    }
}

#[test]
fn garbage_in_the_middle_costs_its_lines_and_is_told() {
    let state = tempfile::tempdir().unwrap();
    add(&mut fresh(state.path()), 1..=2);
    let path = state.path().join(NAME);
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend(b"\xff\xfe garbage\n\n");
    bytes.extend(seal(&json(2)).bytes());
    bytes.extend(seal(&json(3)).bytes());
    fs::write(&path, &bytes).unwrap();
    let (mut history, found) = History::open(state.path(), std::iter::empty()).unwrap();
    assert_eq!((found.torn, found.damaged.len()), (0, 3), "{:?}", found.damaged);
    add(&mut history, [4]);
    assert_eq!(seqs(state.path(), &everything()), [1, 2, 3, 4]);
    assert!(fs::read(&path).unwrap().starts_with(begin(0).as_bytes()));
}

#[test]
fn an_older_supd_left_a_ledger_and_no_history() {
    let state = tempfile::tempdir().unwrap();
    let ledger: Vec<Entry> = [3, 7, 9].map(|seq| sample(seq, "web", Happening::Waiting)).into();
    let (history, found) = History::open(state.path(), ledger.iter()).unwrap();
    assert_eq!((found.existed, found.last), (false, None));
    assert_eq!((history.last_seq(), seqs(state.path(), &everything())), (9, vec![3, 7, 9]));
}

#[test]
fn a_new_file_goes_on_with_the_numbers_of_the_one_before() {
    let state = tempfile::tempdir().unwrap();
    add(&mut fresh(state.path()), 1..=5_000);
    let mut history = fresh(state.path());
    add(&mut history, [5_001]);
    // As if the power went before the new file had anything.
    fs::write(state.path().join(NAME), "").unwrap();
    let (history, found) = History::open(state.path(), std::iter::empty()).unwrap();
    assert_eq!((history.last_seq(), found.existed, found.last.unwrap().seq), (5_000, true, 5_000));
    let first = fs::read(state.path().join(NAME)).unwrap();
    assert_eq!(open_line(&first), Ok(Told::After(5_000)));
}

#[test]
fn pages_are_bounded_and_lead_to_each_other() {
    let state = tempfile::tempdir().unwrap();
    add(&mut fresh(state.path()), 1..=100);
    let newest = Query { newest: true, entries_max: 30, ..everything() };
    assert_eq!(seqs(state.path(), &newest), (71..=100).collect::<Vec<_>>());
    let older = Query { before: Some(71), ..newest.clone() };
    assert_eq!(seqs(state.path(), &older), (41..=70).collect::<Vec<_>>());
    let page = read(state.path(), &Query { before: Some(11), ..newest.clone() }).unwrap();
    assert!(!page.more && page.first == Some(1));
    let page = read(state.path(), &Query { bytes_max: 5 * json(10).len(), ..newest }).unwrap();
    assert!(page.more && (1..=5).contains(&page.entries.len()), "{}", page.entries.len());
    let oldest = Query { after: 40, entries_max: 3, ..everything() };
    let page = read(state.path(), &oldest).unwrap();
    assert!(page.more && page.cursor == 43 && page.entries.len() == 3);
    let page = read(state.path(), &Query { after: 98, ..oldest.clone() }).unwrap();
    assert!(!page.more && page.cursor == 100 && page.entries.len() == 2);
    let page = read(state.path(), &Query { unit: Some("api".into()), ..everything() }).unwrap();
    assert!(page.cursor == 100 && page.entries.is_empty());
    let page = read(state.path(), &Query { since_us: u64::MAX, ..everything() }).unwrap();
    assert!(page.entries.is_empty());
    let tiny = Query { bytes_max: 1, ..oldest };
    assert_eq!(read(state.path(), &tiny).unwrap().entries.len(), 1, "one entry at least");
}

#[test]
fn what_is_no_file_of_ours_is_refused() {
    let state = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc/passwd", state.path().join(NAME)).unwrap();
    assert!(History::open(state.path(), std::iter::empty()).is_err());
    assert!(read(state.path(), &everything()).is_err());
    fs::remove_file(state.path().join(NAME)).unwrap();
    fs::write(state.path().join(NAME), vec![b'x'; 5 << 20]).unwrap();
    let error = History::open(state.path(), std::iter::empty()).unwrap_err();
    assert_eq!(error.errno, Errno::EFBIG);
}
