"""HTML for notebooks: whatever is in a cell, it is text."""

from skerry.core.html import shown, table


def test_cells_are_shown_with_few_digits() -> None:
    found = [shown(each) for each in (None, float("nan"), True, 12345, 0.123456, 1e-9, "as it is")]
    assert found == ["–", "–", "yes", "12,345", "0.1235", "1e-09", "as it is"]


def test_no_cell_can_be_markup() -> None:
    made = table("<b>", ["<i>"], [["<script>alert(1)</script>"], ["&"]])
    assert "<script" not in made
    assert "<b>" not in made
    assert "<i>" not in made
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in made
    assert "<td>&amp;</td>" in made


def test_a_long_table_is_cut_and_counted() -> None:
    made = table("t", (), [[at, at] for at in range(1250)])
    assert made.count("<tr>") == 100
    assert made.count("<th>") == 100, "without columns the first cell is the head of its row"
    assert "and 1,150 more" in made
