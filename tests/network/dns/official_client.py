"""What Cloudflare's own client does with the stand-in; every surprise ends it."""

import os

import cloudflare
from cloudflare import Cloudflare

ZONE, NAME = os.environ["ZONE"], os.environ["NAME"]


def client(token):
    return Cloudflare(api_token=token, base_url=os.environ["API"], max_retries=0, timeout=20)


def refused(kind, status, code, act):
    """The refusal has its type, its status and its code, in the form that the client reads."""
    try:
        act()
    except kind as error:
        assert error.status_code == status, (error.status_code, status)
        assert error.body["success"] is False and error.body["result"] is None, error.body
        first = error.body["errors"][0]
        chain = [it["code"] for it in first.get("error_chain", [])]
        assert code in [first["code"], *chain], (error.body, code)
        return
    raise AssertionError(f"{status} {code} was not refused")


api = client(os.environ["TOKEN"])
assert api.user.tokens.verify().status == "active"

zones = list(api.zones.list(name="example.com"))
assert [(it.id, it.name, it.status) for it in zones] == [(ZONE, "example.com", "active")]
assert list(api.zones.list(name="example.org")) == []
assert api.zones.get(zone_id=ZONE).name_servers

records = api.dns.records
listed = list(records.list(zone_id=ZONE, name={"exact": NAME}))
assert [it.type for it in listed] == ["A", "TXT"], listed
a, txt = listed
assert (a.name, a.content, a.ttl, a.proxied, a.comment) == (NAME, "192.0.2.1", 60, False, "by hand")
assert a.created_on and a.modified_on and a.tags == [] and a.proxiable is True
assert [it.id for it in records.list(zone_id=ZONE, type="TXT")] == [txt.id]
assert list(records.list(zone_id=ZONE, name={"exact": "none.example.com"})) == []
assert records.get(a.id, zone_id=ZONE).content == "192.0.2.1"

like = {"zone_id": ZONE, "name": NAME, "type": "A", "ttl": 60}
edited = records.edit(a.id, content="192.0.2.2", comment="agent epoch=1 site=b", **like)
assert (edited.id, edited.content, edited.comment) == (a.id, "192.0.2.2", "agent epoch=1 site=b")
assert edited.proxied is False, "what is not named stays"

done = records.batch(
    zone_id=ZONE,
    patches=[
        {"id": a.id, "name": NAME, "type": "A", "ttl": 60, "content": "192.0.2.8"},
        {"id": txt.id, "name": NAME, "type": "TXT", "ttl": 60, "content": '"site=ams"'},
    ],
    posts=[{"name": NAME, "type": "A", "ttl": 60, "content": "192.0.2.9"}],
)
assert [it.content for it in done.patches] == ["192.0.2.8", '"site=ams"'], done
assert [it.content for it in done.posts] == ["192.0.2.9"], done

created = records.create(content="192.0.2.10", **like)
gone = records.batch(zone_id=ZONE, deletes=[{"id": created.id}])
assert [it.id for it in gone.deletes] == [created.id], gone
created = records.create(content="192.0.2.11", **like)
assert records.delete(created.id, zone_id=ZONE).id == created.id

BAD, NONE = cloudflare.BadRequestError, cloudflare.NotFoundError
absent = "f" * 32
refused(NONE, 404, 81044, lambda: records.get(absent, zone_id=ZONE))
refused(NONE, 404, 7003, lambda: list(records.list(zone_id=absent)))
refused(BAD, 400, 9005, lambda: records.edit(a.id, content="192.0.2.256", **like))
refused(BAD, 400, 9207, lambda: records.edit(a.id, content="192.0.2.2", **{**like, "ttl": "60"}))
refused(BAD, 400, 9207, lambda: records.edit(a.id, extra_body={"contents": "x"}, **like))
refused(BAD, 400, 81058, lambda: records.create(content="192.0.2.8", **like))
refused(cloudflare.PermissionDeniedError, 403, 9109, lambda: client("wr0ng").zones.list())
# Nothing of a batch happens when its last part is refused.
refused(
    NONE,
    404,
    81044,
    lambda: records.batch(
        zone_id=ZONE,
        deletes=[{"id": a.id}],
        patches=[{"id": absent, "name": NAME, "type": "A", "ttl": 60}],
    ),
)
assert records.get(a.id, zone_id=ZONE).content == "192.0.2.8"
