"""How did the first table come to be?"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table of the sample."""
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )


def downgrade() -> None:
    """Drop it, with what is in it."""
    op.drop_table("notes")
