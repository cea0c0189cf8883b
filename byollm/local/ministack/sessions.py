"""Credentials that STS gives out, told to those services of ours that verify signatures."""

from typing import Any

from ministack.services import sts

from byollm.local.world import World


def share_sessions(world: World) -> None:
    """Have every session that begins from now on kept in the world's store `sessions`."""
    sessions = world.store("sessions")
    register = sts.register_session

    def register_and_share(access_key: str, session: dict[str, Any]) -> None:
        shared = {"secret": session["SecretAccessKey"], "until": session.get("Expiration")}
        sessions.put("Session", access_key, shared)
        register(access_key, session)

    sts.register_session = register_and_share
