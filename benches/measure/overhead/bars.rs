//! What is wanted of the figures, and whether it is so.

#[derive(Default)]
pub(crate) struct Bars(Vec<Bar>);

struct Bar {
    what: String,
    measured: f64,
    at_most: f64,
}

impl Bars {
    pub(crate) fn add(&mut self, what: impl Into<String>, measured: f64, at_most: f64) {
        self.0.push(Bar { what: what.into(), measured, at_most });
    }

    pub(crate) fn print(&self) {
        if self.0.is_empty() {
            return;
        }
        println!("bars (2 workers, 64 callers, no-op inner, unless it says otherwise)");
        for Bar { what, measured, at_most } in &self.0 {
            let verdict = if measured <= at_most { "met" } else { "missed" };
            println!("  {what:<62}{measured:>8.2}  at most {at_most:<5} {verdict}");
        }
    }
}
