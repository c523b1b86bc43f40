//! Settings in files: TOML and JSON, errors that name the place.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{words::HOWS, *};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    port: u16,
    leveler: Settings,
}

fn read(text: &str) -> Result<Settings, String> {
    let config = toml::from_str::<Config>(&format!("port = 80\n[leveler]\n{text}"));
    config.map(|config| config.leveler).map_err(|error| error.to_string())
}

fn concurrency(text: &str) -> Concurrency {
    read(&format!("concurrency = {text}")).expect("valid").concurrency.expect("set")
}

#[test]
fn settings_survive_a_file_exactly() {
    let mut found = all_set();
    found.max_wait = Some(Duration::MAX);
    let of = |algorithm: LoadLevelLayer| algorithm.handle().settings();
    let new = LoadLevelLayer::builder;
    for settings in [
        Settings::default(),
        all_set(),
        found,
        of(new().adaptive_concurrency().build().expect("valid")),
        of(new().adaptive(LatencyTarget::new(MS).min(0.05)).build().expect("valid")),
        of(new().adaptive(Aimd::new()).build().expect("valid")),
        of(new().adaptive(Vegas::new().seed(1 << 40)).build().expect("valid")),
        of(new().adaptive(Own).build().expect("valid")),
        adaptive(AlgorithmName::Gradient, |_| ()),
    ] {
        let config = Config { port: 80, leveler: settings };
        let text = toml::to_string(&config).expect("can be written");
        assert_eq!(toml::from_str::<Config>(&text).as_ref(), Ok(&config), "{text}");
        let json = serde_json::to_string(&config).expect("can be written");
        assert_eq!(serde_json::from_str::<Config>(&json).expect("read"), config, "{json}");
        let value = serde_json::to_value(&config).expect("can be written");
        assert_eq!(serde_json::from_value::<Config>(value).expect("read"), config);
    }
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(read(""), Ok(Settings::default()));
}

#[test]
fn the_file_in_the_docs_is_read() {
    let docs = include_str!("../../src/settings/mod.rs");
    let lines = docs.lines().map(|line| line.trim_start_matches("//!"));
    let lines = lines.skip_while(|line| line.trim() != "```toml").skip(1);
    let file: Vec<_> = lines.take_while(|line| line.trim() != "```").collect();
    let settings = read(&file.join("\n")).expect("valid");
    assert_eq!(settings.concurrency, Some(64.into()));
    assert_eq!(settings.max_wait, Some(500 * MS));
    let (_, table) = file
        .split_at(file.iter().position(|line| line.contains("[concurrency]")).expect("the table"));
    let table: Vec<_> = table.iter().map(|line| line.trim_start_matches([' ', '#'])).collect();
    let text = table.join("\n").replace("[concurrency]", "[leveler.concurrency]");
    let settings = read(&text).expect("valid");
    built(&settings).expect("valid");
}

#[test]
fn a_limit_is_a_number_a_name_or_a_table() {
    assert_eq!(concurrency("64"), 64.into());
    assert_eq!(concurrency("\"bdp\""), AlgorithmName::Bdp.into());
    assert_eq!(concurrency("{ algorithm = \"bdp\" }"), AlgorithmName::Bdp.into());
    let table = concurrency("{ algorithm = 'latency_target', target = '1.5s', min = 2 }");
    let expected = adaptive(AlgorithmName::LatencyTarget, |target| {
        target.target = Some(1500 * MS);
        target.min = Some(2.0);
    });
    assert_eq!(Some(table), expected.concurrency);
    for (wrong, expected) in [
        ("-1", "invalid value: integer `-1`, expected a limit from 1"),
        ("1.5", "expected a limit from 1, the name of an algorithm, or a table"),
        ("'bpd'", "unknown algorithm `bpd`, expected `bdp`, `latency_target`"),
        ("{ min = 3 }", "missing field `algorithm`"),
    ] {
        let error = read(&format!("concurrency = {wrong}")).expect_err("wrong");
        assert!(error.contains(expected), "{error}");
    }
    let error = built(&read("concurrency = 0").expect("a number")).expect_err("0");
    assert_eq!(error.setting(), "concurrency");
}

#[test]
fn an_unknown_key_is_an_error_that_names_it_also_in_a_table_and_in_json() {
    let assert_names = |text: &str, key: &str| {
        let error = read(text).expect_err("unknown");
        assert!(error.contains(&format!("unknown field `{key}`")), "{error}");
        let value: toml::Table = toml::from_str(text).expect("no mistake of syntax");
        let json = serde_json::to_string(&value).expect("can be written");
        let error = serde_json::from_str::<Settings>(&json).expect_err("unknown").to_string();
        assert!(error.contains(&format!("unknown field `{key}`")), "{error}");
    };
    assert_names("max_weight = '1s'", "max_weight");
    assert_names("concurrency = { algorithm = 'bdp', mox = 3 }", "mox");
    assert_names("concurrency = { mox = 3, algorithm = 'bdp' }", "mox");
    assert_names("rate = { requests = 3, per = '1s', burst = 3 }", "burst");
}

#[test]
fn a_wrong_value_is_an_error_that_says_where_and_what_is_expected() {
    for (text, expected) in [
        ("max_wait = '5 fortnights'", "a duration such as \"250ms\""),
        ("max_wait = 500", "a duration such as \"250ms\""),
        ("lifo_after = '-1s'", "a duration such as \"250ms\""),
        ("controlled_delay = 'soon'", "\"auto\", or a duration such as"),
        ("rate = { requests = 3, per = 1 }", "a duration such as \"250ms\""),
        ("rate = { requests = -3, per = '1s' }", "u32"),
        ("rate = { requests = 3 }", "missing field `per`"),
        ("order = 'lifoo'", "unknown order `lifoo`, expected `fifo`, `lifo` or"),
        ("overflow = 'drop'", "expected `reject`, `wait` or `evict_oldest`"),
        ("abandon = 'never'", "expected `cancel` or `finish`"),
        ("execution = 'thread'", "expected `spawn` or `caller`"),
        ("capacity = -1", "usize"),
        ("concurrency = { algorithm = 'aimd', timeout = 5 }", "a duration such as"),
    ] {
        let error = read(text).expect_err("wrong");
        assert!(error.contains(expected), "{error}");
        let key = text.split(' ').next().expect("a key");
        assert!(error.contains(key), "the line is shown: {error}");
    }
}

fn same_words<T>(all: &[T], word: impl Fn(&T) -> &'static str)
where
    T: PartialEq + std::fmt::Debug + Serialize + DeserializeOwned,
{
    for value in all {
        let json = format!("\"{}\"", word(value));
        assert_eq!(serde_json::to_string(value).expect("can be written"), json);
        assert_eq!(serde_json::from_str::<T>(&json).as_ref().expect("read"), value);
    }
}

#[test]
fn files_have_the_same_words_as_the_code() {
    same_words(&[Order::Fifo, Order::Lifo, Order::AdaptiveLifo], Order::as_str);
    same_words(&[Overflow::Reject, Overflow::Wait, Overflow::EvictOldest], Overflow::as_str);
    same_words(&[Abandon::Cancel, Abandon::Finish], Abandon::as_str);
    same_words(&[Execution::Spawn, Execution::Caller], Execution::as_str);
    same_words(Priority::ALL, Priority::as_str);
    same_words(Reason::ALL, Reason::as_str);
    same_words(&HOWS, AlgorithmName::as_str);
}
