"""Forms as clients other than browsers write them, through every route that takes one."""

import pytest

from shared.storage import ObjectRef
from tests.fakes.ingress import Ingress

ROW = b"first_name,last_name,birthts\r\nAda,Byron,473385600000\r\n"
FORMS = {
    ".NET": (
        "form-data; name={}; filename=\"=?utf-8?B?MTEwMMOpLmNzdg==?=\"; filename*=utf-8''1100%C3%A9.csv",
        "1100é.csv",
    ),
    "old requests": ("form-data; name=\"{}\"; filename*=utf-8''1100%C3%A9.csv", "1100é.csv"),
    "a Persian name": ('form-data; name="{}"; filename="می\u200cخواهم.csv"', "می\u200cخواهم.csv"),  # noqa: RUF001
    "no quotes": ("form-data; name={}; filename=my file.csv", "my file.csv"),
}
ROUTES = [("/files/", "file"), ("/uploadfile/", "file"), ("/files/upload_minio", "files")]


def form(disposition, field):
    prefix = b'--XbX\r\nContent-Disposition: form-data; name="keys_prefix"\r\n\r\nset\r\n'
    head = f"--XbX\r\nContent-Disposition: {disposition.format(field)}\r\nContent-Type: text/csv\r\n\r\n"
    return prefix + head.encode() + ROW + b"\r\n--XbX--\r\n"


async def sent(ingress, route, content):
    headers = {"content-type": "multipart/form-data; boundary=XbX", "bucket": "inbox"}
    async with ingress.client() as client:
        return await client.post(route, content=content, headers=headers)


async def keys(ingress):
    return [info.ref.key async for page in ingress.store.list("inbox") for info in page]


@pytest.mark.parametrize("client", FORMS)
@pytest.mark.parametrize(("route", "field"), ROUTES)
async def test_file_is_stored_under_the_name_that_its_client_meant(client, route, field):
    ingress, (disposition, name) = Ingress(), FORMS[client]
    answer = await sent(ingress, route, form(disposition, field))
    assert answer.is_success
    (key,) = await keys(ingress)
    assert key.rpartition("/")[2] == name
    assert (await ingress.store.read(ObjectRef("inbox", key)))[1] == ROW


@pytest.mark.parametrize(("route", "field"), ROUTES)
async def test_name_that_cannot_be_read_is_refused_and_nothing_is_stored(route, field):
    ingress = Ingress()
    answer = await sent(ingress, route, form("form-data; name={}; filename*=x-odd''%FF.csv", field))
    assert (answer.status_code, answer.json()["code"]) == (422, "BAD_FILENAME")
    assert "x-odd''%FF.csv" in answer.json()["detail"]
    assert await keys(ingress) == []


@pytest.mark.parametrize(
    ("filename", "key"),
    [("C:\\Users\\me\\a.csv", "files/a.csv"), ("sub\\a.csv", "files/a.csv"), ("sub/a.csv", "files/a.csv")],
)
async def test_path_of_the_clients_machine_gives_its_last_step(filename, key):
    ingress = Ingress()
    answer = await sent(ingress, "/files/", form(f'form-data; name="{{}}"; filename="{filename}"', "file"))
    assert answer.status_code == 202
    assert await keys(ingress) == [key]


async def test_set_keeps_folders_with_either_slash():
    ingress = Ingress()
    form_ = form('form-data; name="{}"; filename="sub\\x.py"', "files")
    assert (await sent(ingress, "/files/upload_minio", form_)).status_code == 204
    assert await keys(ingress) == ["set/sub/x.py"]
