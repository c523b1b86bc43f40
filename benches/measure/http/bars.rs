//! What ratios should be.

use crate::{contenders::Contender, numbers::Ratio};

#[derive(Clone, Copy, Debug)]
pub enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

impl Bar {
    /// Prints whether it is met.
    pub fn judge(self, of: Contender, to: Contender, ratio: &Ratio) {
        let (words, bar, is_met) = match self {
            Self::AtLeast(bar) => ("at least", bar, ratio.median >= bar),
            Self::AtMost(bar) => ("at most", bar, ratio.median <= bar),
        };
        let what = format!("{} ÷ {}", of.name(), to.name());
        let verdict = if is_met { "met" } else { "missed" };
        println!("  {what:<46}{}  {words} {bar:.2} {verdict}", ratio.print());
    }
}
