"""The session's cookie: no script reads it, no other site sends it with a change."""

from starlette.responses import Response

from services.ingress.core.sessions import SESSION_TTL, Session, Sessions


def cookie_of(sessions: Sessions, session: Session) -> str:
    """Return the value of a Set-Cookie header that holds `session` from now on."""
    return _header(sessions, sessions.sign(session), int(SESSION_TTL.total_seconds()))


def no_cookie(sessions: Sessions) -> str:
    """Return the value of a Set-Cookie header that removes the session."""
    return _header(sessions, "", 0)


def _header(sessions: Sessions, value: str, seconds: int) -> str:
    made = Response()
    made.set_cookie(
        sessions.cookie, value, max_age=seconds, path="/", secure=sessions.is_https, httponly=True, samesite="lax"
    )
    return made.headers["set-cookie"]
