//! The word of each state, as the page says it, in virtual time.

mod support;

use support::{MS, SECOND, call, json, leveler};
use tokio::time::sleep;
use tower_load_leveling::LoadLevelLayer;
use tower_load_leveling_watch::Dashboard;

async fn state(page: &Dashboard) -> String {
    let stats = json(page, "/stats.json").await;
    stats["levelers"][0]["state"].as_str().expect("a word").to_owned()
}

/// Lets time pass with a call of `millis` every 100 ms, and returns the states, second by second.
async fn states(layer: &LoadLevelLayer, seconds: usize, millis: Option<u32>) -> Vec<String> {
    let page = Dashboard::new().watch(layer.handle());
    let mut states = Vec::new();
    for _ in 0..seconds {
        for _ in 0..10 {
            if let Some(millis) = millis {
                call(layer, millis);
            }
            sleep(100 * MS).await;
        }
        sleep(MS).await;
        states.push(state(&page).await);
    }
    states
}

#[tokio::test(start_paused = true)]
async fn idle_calm_leveling_and_overloaded() {
    for (millis, word) in [(None, "idle"), (Some(50), "calm"), (Some(5000), "overloaded")] {
        let states = states(&leveler("orders"), 3, millis).await;
        assert!(states.iter().all(|state| state == word), "{millis:?} ms: {states:?}");
    }
    let layer = leveler("orders");
    (0..2).for_each(|_| call(&layer, 90));
    let leveling = states(&layer, 3, Some(90)).await;
    assert!(leveling.iter().all(|state| state == "leveling"), "{leveling:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_turned_away_counts_for_ten_seconds() {
    let layer = leveler("orders");
    let page = Dashboard::new().watch(layer.handle());
    (0..4).for_each(|_| call(&layer, 10));
    sleep(9 * SECOND).await;
    assert_eq!(state(&page).await, "overloaded");
    sleep(2 * SECOND).await;
    assert_eq!(state(&page).await, "idle");
}

#[tokio::test(start_paused = true)]
async fn a_stall_shows_after_five_seconds_and_tells_how_long_it_lasts() {
    let layer = leveler("orders");
    let page = Dashboard::new().watch(layer.handle());
    call(&layer, 1);
    sleep(2 * SECOND).await;
    (0..2).for_each(|_| call(&layer, 60_000));
    sleep(4 * SECOND).await;
    assert_ne!(state(&page).await, "stalled");
    sleep(3 * SECOND).await;
    assert_eq!(state(&page).await, "stalled");
    sleep(30 * SECOND).await;
    let stats = json(&page, "/stats.json").await;
    let sentence = stats["levelers"][0]["sentence"].as_str().expect("text").to_owned();
    let told = |seconds: &str| sentence.starts_with(&format!("Nothing has finished for {seconds}"));
    assert!(told("36.") || told("37."), "{sentence}");
    sleep(30 * SECOND).await;
    assert_ne!(state(&page).await, "stalled", "a call has ended");
}

#[tokio::test(start_paused = true)]
async fn paused_draining_and_closed_show_at_once() {
    let layer = leveler("orders");
    let (page, handle) = (Dashboard::new().watch(layer.handle()), layer.handle());
    sleep(SECOND + 500 * MS).await;
    handle.pause();
    sleep(250 * MS).await;
    assert_eq!(state(&page).await, "paused");
    handle.resume();
    call(&layer, 3000);
    sleep(SECOND).await;
    handle.close();
    sleep(250 * MS).await;
    assert_eq!(state(&page).await, "draining");
    sleep(4 * SECOND).await;
    assert_eq!(state(&page).await, "closed");
}

#[tokio::test(start_paused = true)]
async fn under_overload_the_sentence_says_whether_less_is_done_than_before() {
    let layer = leveler("orders");
    let page = Dashboard::new().watch(layer.handle());
    let sentence = async || {
        let stats = json(&page, "/stats.json").await;
        stats["levelers"][0]["sentence"].as_str().expect("text").to_owned()
    };
    let less = " It does less than before: 1 succeed a second; in the last 5 min, up to 10 did.";
    for (seconds, millis, ends) in
        [(12, 50, "taken: 0 of 1."), (12, 95, "taken: 0 of 1."), (14, 1000, less)]
    {
        for _ in 0..10 * seconds {
            call(&layer, millis);
            sleep(100 * MS).await;
        }
        let sentence = sentence().await;
        assert!(sentence.ends_with(ends), "{millis} ms: {sentence}");
    }
    // More is asked for than before, and no less is done.
    let layer = leveler("mail");
    let page = Dashboard::new().watch(layer.handle());
    for calls in [1, 4] {
        for _ in 0..100 {
            (0..calls).for_each(|_| call(&layer, 95));
            sleep(100 * MS).await;
        }
    }
    let stats = json(&page, "/stats.json").await;
    let sentence = stats["levelers"][0]["sentence"].as_str().expect("text");
    assert!(sentence.ends_with("most because the queue is full."), "{sentence}");
}
