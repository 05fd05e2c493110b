"""Set up the stack by the manifests of all services, with the secrets of the settings."""

from services import catalogue
from services.cli.settings import CliSettings
from shared.provision import Secrets, provision


async def set_up(settings: CliSettings) -> list[str]:
    """Create or correct what services require; return the changes."""
    secrets = Secrets(
        s3_users=settings.user_secrets,
        kafka_users=settings.kafka_passwords,
        database_roles=settings.role_passwords,
        reader=settings.reader_password,
    )
    return await provision(settings, catalogue.manifests(), secrets)
