//! Which cells a query looks at.

use super::allowed::Allowed;

/// Cells that a query looks at; `None` for all.
pub(crate) type Reach = Option<usize>;

/// The cells that a query looks at, in no particular order: of those with rows the `most` of highest base, ties to the lower
/// number, and the next ones while they hold fewer than `k` rows. `bases` has one value per cell, cell c the positions
/// `cells[c]..cells[c + 1]`; only those that are `allowed` count. O(cells), but for a sort where `most` are too few.
pub(crate) fn looked_at(
    bases: &[f32],
    cells: &[u64],
    allowed: Option<&Allowed>,
    most: usize,
    k: usize,
) -> Vec<usize> {
    let size = |cell: usize| allowed.map_or(cells[cell + 1] - cells[cell], |allowed| allowed.in_cell(cell));
    let mut ranked: Vec<usize> = (0..bases.len()).filter(|&cell| size(cell) > 0).collect();
    if most >= ranked.len() {
        return ranked;
    }
    let higher = |a: &usize, b: &usize| bases[*b].total_cmp(&bases[*a]).then_with(|| a.cmp(b));
    ranked.select_nth_unstable_by(most, higher);
    let mut rows: u64 = ranked[..most].iter().map(|&cell| size(cell)).sum();
    let mut taken = most;
    if rows < k as u64 {
        ranked[most..].sort_unstable_by(higher);
        while taken < ranked.len() && rows < k as u64 {
            rows += size(ranked[taken]);
            taken += 1;
        }
    }
    ranked.truncate(taken);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_highest_bases_are_looked_at() {
        let (bases, cells) = ([0.5, 0.9, 0.1, 0.9, 0.7], [0, 4, 4, 9, 12, 13]);
        let sorted = |most, k| {
            let mut found = looked_at(&bases, &cells, None, most, k);
            found.sort_unstable();
            found
        };
        assert_eq!(sorted(1, 3), [3], "the other one of highest base has no rows");
        assert_eq!(sorted(1, 4), [3, 4]);
        assert_eq!(sorted(2, 5), [0, 3, 4]);
        assert_eq!(sorted(3, 1), [0, 3, 4]);
        assert_eq!(sorted(1, 100), [0, 2, 3, 4]);
        assert_eq!(sorted(4, 1), [0, 2, 3, 4]);
        assert_eq!(looked_at(&[1.0; 3], &[0, 1, 2, 3], None, 1, 1), [0], "ties go to the lower cell");
    }

    #[test]
    fn cells_without_an_allowed_row_do_not_count() {
        let (bases, cells) = ([0.5, 0.9, 0.1, 0.9, 0.7], [0, 4, 4, 9, 12, 13]);
        // Two rows of the first cell, one each of the third and the last.
        let allowed = Allowed::new(vec![0b1_0000_0100_0101], &cells);
        let sorted = |most, k| {
            let mut found = looked_at(&bases, &cells, Some(&allowed), most, k);
            found.sort_unstable();
            found
        };
        assert_eq!(sorted(1, 1), [4], "the one of highest base has no row that is allowed");
        assert_eq!(sorted(1, 2), [0, 4]);
        assert_eq!(sorted(2, 3), [0, 4]);
        assert_eq!(sorted(2, 4), [0, 2, 4]);
        assert_eq!(sorted(9, 1), [0, 2, 4]);
    }
}
