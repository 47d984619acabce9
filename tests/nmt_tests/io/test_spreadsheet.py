"""Tables as spreadsheet programs of many countries save them."""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt.errors import UserError
from nmt.io.spreadsheet import Table, filled, read_table
from tests.nmt_tests.data.readers.raw_sets import or_one_line

ROWS = [["name", "x", "y"], ["left ear", "10.5", "2"], ["Öhr, 2", "-3", "4e1"]]
in_folder = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])


def table_of(folder: Path, text: str | bytes) -> Table:
    file = folder / "table.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(file)


def cells(table: Table) -> list[list[str]]:
    return [row for _, row in table.rows]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_line_ends_and_encodings_are_found(tmp_path, delimiter, end, encoding):
    text = end.join(delimiter.join(f'"{cell}"' if delimiter in cell else cell for cell in row) for row in ROWS) + end
    table = table_of(tmp_path, text.encode(encoding))
    assert cells(table) == ROWS and table.delimiter == delimiter
    assert [line for line, _ in table.rows] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sep=;\r\nname;x;y\r\na,b;1;2", [["name", "x", "y"], ["a,b", "1", "2"]]),
        ('"sep=\t"\nname\tx,y', [["name", "x,y"]]),
        ("beak;10,5;20,5\n", [["beak", "10,5", "20,5"]]),
        ("beak  10  20\ntail 3 4\n", [["beak", "10", "20"], ["tail", "3", "4"]]),
        ('"a;b;c;d",x,y\n', [["a;b;c;d", "x", "y"]]),
        (" name , x ,y\n beak,  1 ,2 ", [["name", "x", "y"], ["beak", "1", "2"]]),
        ("\n\nname,x\n,,\n  \na,1\n\n", [["name", "x"], ["a", "1"]]),
        ("o\u0308hr,x", [["öhr", "x"]]),
        ("one", [["one"]]),
        ("", []),
        ("\n\r\n", []),
    ],
)
def test_odd_tables_are_read_as_they_are_meant(tmp_path, text, found):
    assert cells(table_of(tmp_path, text)) == found


def test_lines_are_numbered_where_rows_begin(tmp_path):
    table = table_of(tmp_path, 'sep=,\nname,x\n\n"two\nlines",1\nlast,2\n')
    assert [line for line, _ in table.rows] == [2, 4, 6]
    assert table.where(6) == f"{tmp_path}/table.csv, line 6"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,x\na," + "1" * 200_000, "line 2: not readable CSV"),
        ('name,x\na,1\n"b,2\nc,3\nd,4\n', r'line 3: a quote \("\) opens and never closes'),
        ('name,note\na,"b', r"line 2: a quote"),
        ("Möwe,1".encode("latin-1"), "save it as UTF-8"),
        (bytes(range(256)), "save it as UTF-8"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=rf"table\.csv.*{message}") as error:
        table_of(tmp_path, text)
    assert len(str(error.value).splitlines()) == 1


def test_records_follow_the_names_of_the_first_line(tmp_path):
    table = table_of(tmp_path, "Y,Name,note,X\n2,a,,1\n4,b,c,3\n")
    assert table.header == ["y", "name", "note", "x"] and table.missing(["x", "z"]) == ["z"]
    assert list(table.records(["name", "x"])) == [
        (2, {"y": "2", "name": "a", "note": "", "x": "1"}),
        (3, {"y": "4", "name": "b", "note": "c", "x": "3"}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,x\na,1\n", "no column y; the first line names them: name,x,y, but holds 'name, x'$"),
        ("", "no column name, x, y; the first line names them: name,x,y$"),
        ("name,x,X,y\na,1,1,1\n", "the first line names the column x twice"),
        ("name,x,y\na,1,2\nb,1\n", "line 3: fewer columns than the first line names; it lacks 'y'"),
    ],
)
def test_records_that_lack_a_column_are_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=rf"table\.csv.*{message}"):
        list(table_of(tmp_path, text).records(["name", "x", "y"]))


def test_numbers_may_have_a_decimal_comma_where_commas_do_not_separate():
    semicolons, commas = Table(Path("t"), [], ";"), Table(Path("t"), [], ",")
    numbers = {"10,5": 10.5, "-,5": -0.5, "1.5": 1.5, "2e3": 2000.0, "1,5e-1": 0.15}
    assert [semicolons.number(cell, "x") for cell in numbers] == list(numbers.values())
    wrong = [(commas, "10,5"), (commas, "1_0"), (commas, ""), (semicolons, "1.000,5"), (semicolons, "1,000,5")]
    for table, cell in wrong:
        with pytest.raises(UserError, match=r"^t, line 1: x must be a number, but is '"):
            table.number(cell, "t, line 1: x")
    with pytest.raises(UserError, match="but is '10,5'; write it with a decimal point, without separators"):
        commas.number("10,5", "x")


def test_a_cell_may_say_that_it_has_no_value():
    assert [filled(cell) for cell in ("NA", "n/a", "NaN", "", "0", "nab")] == ["", "", "", "", "0", "nab"]


@in_folder
@given(st.binary(max_size=80) | st.text(alphabet='ab1,;\t "\n\r|=sep', max_size=60).map(str.encode))
def test_any_bytes_are_a_table_or_one_line(tmp_path, content):
    with or_one_line():
        assert all(any(row) for row in cells(table_of(tmp_path, content)))


names = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=8).map(lambda name: name + "a")


@in_folder
@given(st.lists(st.tuples(names, st.floats(0, 1e4)), min_size=1, max_size=5), st.sampled_from(";\t|"))
def test_numbers_and_names_come_back_from_a_table_with_decimal_commas(tmp_path, rows, delimiter):
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["name", "x"])
    writer.writerows([name, f"{number:.3f}".replace(".", ",")] for name, number in rows)
    table = table_of(tmp_path, buffer.getvalue())
    found = [(row["name"], table.number(row["x"], "x")) for _, row in table.records(["name", "x"])]
    assert found == [(unicodedata.normalize("NFC", name), float(f"{number:.3f}")) for name, number in rows]
