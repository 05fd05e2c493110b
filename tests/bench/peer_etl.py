"""The peers of etl, as most would write them; run beside the stack, they print the seconds from GET to commit.

python peer_etl.py upsert 20000    csv.DictReader, and a committed upsert for each row, as the users ETL had it
python peer_etl.py batches 0       the csv module, executemany of 10,000 rows at a time, one transaction; 0: all rows
"""

import csv
import io
import itertools
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator

import boto3
import psycopg

UPSERT = """
    INSERT INTO peer.users (user_id, first_name, last_name, birthts) VALUES (%s, %s, %s, %s)
    ON CONFLICT (user_id) DO UPDATE SET first_name = excluded.first_name, last_name = excluded.last_name,
        birthts = excluded.birthts
"""
BATCH = 10_000
Row = tuple[str, str, str, int]


def main() -> None:
    way, limit = sys.argv[1], int(sys.argv[2]) or None
    s3 = boto3.client(
        "s3",
        endpoint_url=os.environ["PENSTOCK_S3_ENDPOINT"],
        aws_access_key_id=os.environ["PENSTOCK_S3_ACCESS_KEY"],
        aws_secret_access_key=os.environ["PENSTOCK_S3_SECRET_KEY"],
        region_name="us-east-1",
    )
    with psycopg.connect(os.environ["PENSTOCK_POSTGRES_DSN"], autocommit=way == "upsert") as connection:
        started = time.perf_counter()
        body = s3.get_object(Bucket=os.environ["PEER_BUCKET"], Key=os.environ["PEER_KEY"])["Body"]
        text = io.TextIOWrapper(io.BufferedReader(_Readable(body), 1 << 20), "utf-8", newline="")
        count = {"upsert": _upsert, "batches": _batches}[way](connection, itertools.islice(_rows(text), limit))
        connection.commit()
        seconds = time.perf_counter() - started
    print(json.dumps({"rows": count, "seconds": seconds}))


class _Readable(io.RawIOBase):
    """A body of boto3 as a file."""

    def __init__(self, body: object) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        piece = self._body.read(len(buffer))  # type: ignore[attr-defined]
        buffer[: len(piece)] = piece
        return len(piece)


def _rows(text: io.TextIOWrapper) -> Iterator[Row]:
    for row in csv.DictReader(text):
        yield row["user_id"], row["first_name"].strip(), row["last_name"].strip(), int(row["birthts"])


def _upsert(connection: psycopg.Connection, rows: Iterable[Row]) -> int:
    done = 0
    with connection.cursor() as cursor:
        for row in rows:
            cursor.execute(UPSERT, row)
            done += 1
    return done


def _batches(connection: psycopg.Connection, rows: Iterator[Row]) -> int:
    done = 0
    with connection.cursor() as cursor:
        while batch := list(itertools.islice(rows, BATCH)):
            cursor.executemany(UPSERT, batch)
            done += len(batch)
    return done


if __name__ == "__main__":
    main()
