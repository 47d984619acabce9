"""The look that all pages share, and what a template may rely on."""

from __future__ import annotations

import jinja2
import pytest

from nmt.io.page import embedded, render_page

TEMPLATE = """{% extends "page.html" %}{% import "page.html" as page %}
{% block title %}{{ name }}{% endblock %}
{% block content %}{{ page.fact_list({"trials": name}) }}{% endblock %}"""


def test_a_template_of_any_folder_has_the_look_and_escapes_what_it_is_given(tmp_path):
    (tmp_path / "mine.html").write_text(TEMPLATE)
    page = render_page(tmp_path / "mine.html", name="<script>x</script>").decode()
    assert page.startswith("<!doctype html>") and "<script>" not in page
    assert page.count("&lt;script&gt;x&lt;/script&gt;") == 2 and ".facts li {" in page and "</html>" in page


def test_a_value_that_is_not_given_is_an_error_not_a_gap(tmp_path):
    (tmp_path / "mine.html").write_text(TEMPLATE)
    with pytest.raises(jinja2.UndefinedError, match="name"):
        render_page(tmp_path / "mine.html")


def test_an_embedded_picture_is_its_own_address():
    assert embedded(b"\x01\x02", "png") == "data:image/png;base64,AQI="
