"""Statements that make a user of the engine for a tenant's analysts."""

from __future__ import annotations

import re

import pytest

from collector.errors import Invalid
from collector.tenants import sql_users
from collector.tenants.sql_users import Bounds, statements

HASH = "ab" * 32


def made(user: str = "ps_shop", tenant_id: str = "t-1", **more: str) -> list[str]:
    return statements("pulsestream", tenant_id, user, HASH, Bounds(), **more)


def test_a_user_is_bound_to_its_tenant_in_every_table_that_it_may_read() -> None:
    texts = made()
    granted = {name for text in texts for name in re.findall(r"GRANT SELECT ON pulsestream\.(\w+)", text)}
    bound = {name for text in texts for name in re.findall(r"ROW POLICY OR REPLACE ps_shop ON pulsestream\.(\w+)", text)}
    assert granted == {"search", "events_live", "events", "losses", "outcomes", "agents"}
    assert bound == granted - {"search", "events_live"}  # views of events, read with the rights of who asks
    assert all("USING tenant_id = 't-1' TO ps_shop" in text for text in texts if "ROW POLICY OR REPLACE" in text)


def test_everybody_else_goes_on_reading_all_rows() -> None:
    others = [text for text in made() if "pulsestream_others" in text]
    assert len(others) == 4
    assert all(text.endswith("USING 1 TO ALL EXCEPT pulsestream_analyst") for text in others)


def test_the_bounds_cannot_be_raised_and_copies_not_be_shown() -> None:
    (profile,) = [text for text in made() if "SETTINGS PROFILE OR REPLACE" in text]
    assert "readonly = 2 CONST" in profile
    assert "final = 1 CONST" in profile
    assert "do_not_merge_across_partitions_select_final = 0 CONST" in profile
    assert "max_execution_time = 30 MIN 1 MAX 30" in profile


def test_on_a_cluster_every_statement_says_so() -> None:
    for text in (*made(cluster="main"), *sql_users.removal("pulsestream", "ps_shop", "main")):
        assert text.count(" ON CLUSTER 'main'") == 1, text


@pytest.mark.parametrize("user", ["", "a b", "a`b", "a;DROP", "1a", "a" * 64, "x\n"])
def test_what_is_no_name_is_refused(user: str) -> None:
    with pytest.raises(Invalid, match="--user: is no name"):
        made(user)


def test_what_is_no_cluster_is_refused() -> None:
    with pytest.raises(Invalid, match="--cluster: is no name"):
        made(cluster="x' ON")


def test_no_tenant_id_ends_its_text() -> None:
    assert any(r"USING tenant_id = 'a\' OR 1 --\\' TO ps_shop" in text for text in made(tenant_id="a' OR 1 --\\"))
