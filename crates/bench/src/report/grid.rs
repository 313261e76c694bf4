//! Tables for people.

use comfy_table::{Cell, CellAlignment, Table as Grid, TableComponent};

/// A grid whose only lines are those around its header.
pub fn empty_grid() -> Grid {
    let mut grid = Grid::new();
    grid.load_preset(comfy_table::presets::NOTHING);
    for line in [
        TableComponent::HeaderLines,
        TableComponent::MiddleHeaderIntersections,
        TableComponent::BottomBorder,
        TableComponent::BottomBorderIntersections,
    ] {
        grid.set_style(line, '─');
    }
    grid
}

/// A cell of figures.
pub fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// A table of plain rows: the first and second columns are names, the others figures.
pub fn grid<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut grid = empty_grid();
    let cell = |(column, text): (usize, String)| match column {
        0 | 1 => Cell::new(text),
        _ => right(text),
    };
    let cells = |row: [String; N]| row.into_iter().enumerate().map(cell).collect::<Vec<_>>();
    grid.set_header(cells(header.map(str::to_owned)));
    for row in rows {
        grid.add_row(cells(row));
    }
    lines(&mut grid)
}

/// The finished text: two blanks before a column, none behind; the first stands at the margin.
pub fn lines(grid: &mut Grid) -> String {
    for (at, column) in grid.column_iter_mut().enumerate() {
        column.set_padding((if at == 0 { 0 } else { 2 }, 0));
    }
    grid.lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}
