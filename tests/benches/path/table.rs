//! The figures, their ratios, and whether they reach the goals.

/// What a goal compares.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// The agent's figure, in its unit.
    AtMost(f64),
    /// The agent's figure by the relay's.
    AtMostRelay(f64),
    /// The agent's figure by the relay's.
    AtLeastRelay(f64),
    /// The agent's figure by the relay's, and by socat's.
    AtMostRelayAndSocat(f64, f64),
    /// None: it is shown for comparison.
    None,
}

/// What is beside the agent, the plain relay and socat where relays of displays are measured.
const OTHERS: [&str; 3] = ["haproxy", "websockify", "sshd"];

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What was measured, with its unit.
    pub(crate) what: String,
    /// The agent's, the relay's and socat's figure, where there is one, and those of [`OTHERS`]
    /// where they are measured too.
    pub(crate) figures: Vec<Option<f64>>,
    /// What is to be reached.
    pub(crate) goal: Goal,
}

impl Row {
    fn ratio(&self, other: usize) -> Option<f64> {
        Some(self.figures[0]? / (*self.figures.get(other)?)?)
    }

    fn verdict(&self) -> (String, Option<bool>) {
        let by = |most: f64, ratio: Option<f64>| ratio.map(|ratio| ratio <= most);
        match self.goal {
            Goal::AtMost(most) => (format!("<= {most}"), by(most, self.figures[0])),
            Goal::AtMostRelay(most) => (format!("<= {most} x relay"), by(most, self.ratio(1))),
            Goal::AtLeastRelay(least) => {
                let met = self.ratio(1).map(|ratio| ratio >= least);
                (format!(">= {least} x relay"), met)
            }
            Goal::AtMostRelayAndSocat(relay, socat) => {
                let met = by(relay, self.ratio(1)).zip(by(socat, self.ratio(2)));
                let met = met.map(|(relay, socat)| relay && socat);
                (format!("<= {relay} x relay, {socat} x socat"), met)
            }
            Goal::None => (String::new(), None),
        }
    }
}

/// Prints the rows. Returns how many goals were missed.
pub(crate) fn print(rows: &[Row]) -> usize {
    let columns = rows.iter().map(|row| row.figures.len()).max().unwrap_or(3);
    let others = |cell: &dyn Fn(usize) -> String| -> String {
        let cells = (3..columns).map(|column| format!(" {:>10}", cell(column)));
        cells.collect()
    };
    println!(
        "\n{:<46} {:>9} {:>9} {:>9}{} {:>8} {:>8}  goal",
        "",
        "agent",
        "relay",
        "socat",
        others(&|column| OTHERS[column - 3].to_owned()),
        "x relay",
        "x socat"
    );
    let mut missed = 0;
    for row in rows {
        let number = |value: Option<f64>| match value {
            None => "-".to_owned(),
            Some(value) if value.abs() < 10.0 => format!("{value:.2}"),
            Some(value) if value.abs() < 100.0 => format!("{value:.1}"),
            Some(value) => format!("{value:.0}"),
        };
        let ratio = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
        let (goal, met) = row.verdict();
        let verdict = match met {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        missed += usize::from(met == Some(false));
        println!(
            "{:<46} {:>9} {:>9} {:>9}{} {:>8} {:>8}  {goal:<29} {verdict}",
            row.what,
            number(row.figures[0]),
            number(row.figures[1]),
            number(row.figures[2]),
            others(&|column| number(row.figures.get(column).copied().flatten())),
            ratio(row.ratio(1)),
            ratio(row.ratio(2)),
        );
    }
    missed
}

/// The median; the middle of the two middle ones where there are two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}
