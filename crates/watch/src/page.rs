//! The page: one file, put together from readable parts.

/// The page: HTML with style and script, which requests nothing but the endpoints beside the page.
pub(crate) const PAGE: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<head>\n",
    include_str!("page/head.html"),
    "<style>",
    include_str!("page/style.css"),
    "</style>\n</head>\n<body>\n",
    include_str!("page/body.html"),
    "<script>",
    include_str!("page/words.js"),
    include_str!("page/history.js"),
    include_str!("page/plot.js"),
    include_str!("page/charts.js"),
    include_str!("page/numbers.js"),
    include_str!("page/main.js"),
    "</script>\n</body>\n</html>\n",
);

/// The policy of the page: one script and one style with these hashes, data from the page's own
/// origin, and nothing else. A test computes the hashes from the page.
pub(crate) const POLICY: &str = concat!(
    "default-src 'none'; ",
    "script-src 'sha256-mEVtJhFHH65lwkb9Z/sXwnWwb9Ljv86ZLR+GbBs20DY='; ",
    "style-src 'sha256-uJ2Y6tSTzA5cJO9UbkyOdFEKIzV8B77/AeBM9Kt+N/g='; ",
    "connect-src 'self'; img-src data:; ",
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use sha2::{Digest, Sha256};

    use super::*;

    fn between(begin: &str, end: &str) -> &'static str {
        let (_, rest) = PAGE.split_once(begin).expect("it is there");
        assert!(!rest.contains(begin), "once");
        rest.split_once(end).expect("it ends").0
    }

    #[test]
    fn the_policy_has_the_hashes_of_the_one_script_and_the_one_style() {
        for (kind, code) in [
            ("script", between("<script>", "</script>")),
            ("style", between("<style>", "</style>")),
        ] {
            let hash = STANDARD.encode(Sha256::digest(code));
            let expected = format!("{kind}-src 'sha256-{hash}';");
            assert!(POLICY.contains(&expected), "src/page.rs has to say: {expected}");
        }
        assert!(!POLICY.contains("unsafe"));
    }

    #[test]
    fn the_page_is_small() {
        assert!(PAGE.len() < 40_000, "{} bytes", PAGE.len());
    }

    #[test]
    fn the_page_names_no_other_host() {
        // The name of a namespace. Nobody asks there for anything.
        let page = PAGE.replace("http://www.w3.org/2000/svg", "");
        for (at, _) in page.match_indices("//") {
            let is_comment = page[..at].ends_with(['\n', ' ']);
            assert!(is_comment, "{:?}", page.get(at.saturating_sub(20)..at + 20));
        }
        for way in ["@import", "url(", "innerHTML", "document.write", "eval(", "import "] {
            assert!(!page.contains(way), "{way}");
        }
    }
}
