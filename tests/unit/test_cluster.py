"""The schema for the servers of a cluster, as text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector.errors import ConfigError
from collector.store import schema
from collector.store.cluster import SHARD, clustered, name_in

GOLDEN = Path(__file__).parents[1] / "golden" / "schema-cluster.sql"


def made() -> list[str]:
    return clustered(schema.statements("pulsestream"), "pulsestream", "main", schema.VERSION)


def test_the_schema_of_a_cluster_is_the_kept_text() -> None:
    text = ";\n\n".join(made()) + ";\n"
    assert text == GOLDEN.read_text(), f"write the new text to {GOLDEN}"


def test_all_is_made_on_all_servers_and_can_be_made_again() -> None:
    *creating, version = made()
    assert all(re.match(r"CREATE [A-Z ]+ IF NOT EXISTS \S+ ON CLUSTER 'main'", text) for text in creating)
    assert f"WHERE {schema.VERSION} NOT IN (SELECT version" in version


def test_every_table_that_is_kept_is_replicated_and_no_two_share_a_place() -> None:
    kept = [text for text in made() if "MergeTree" in text]
    assert len(kept) == len(schema.DURABLE_TABLES)
    places = [re.findall(r"ENGINE = ReplicatedReplacingMergeTree\('([^']+)', '([^']+)'", text) for text in kept]
    assert len({place for ((place, _),) in places}) == len(kept)
    for text in kept:
        assert all(f"{name} = {value}" in text for name, value in schema.DURABLE.items())


def test_events_are_parted_by_shard_and_all_else_is_whole_on_every_server() -> None:
    for text in made():
        found = re.search(r"ReplicatedReplacingMergeTree\('([^']+)', '([^']+)'", text)
        if found and "events_local" in text:
            assert found.groups() == ("/clickhouse/tables/{shard}/pulsestream/events_local", "{replica}")
        elif found:
            assert found[1].startswith("/clickhouse/tables/all/pulsestream/")
            assert found[2] == "{shard}-{replica}"
    (over,) = [text for text in made() if "Distributed(" in text]
    assert over.endswith(f"ENGINE = Distributed('main', pulsestream, events_local, {SHARD})")


@pytest.mark.parametrize("name", ["", "a'b", "1", "x y"])
def test_what_is_no_name_of_a_cluster_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"--cluster: .* is no name of a cluster"):
        clustered([], "pulsestream", name, 1)


def test_a_store_says_which_cluster_it_is_of() -> None:
    assert name_in("Distributed('main', 'pulsestream', 'events_local', cityHash64(tenant_id))") == "main"
    assert name_in("ReplacingMergeTree(version, is_deleted) PARTITION BY (retention_days)") == ""
