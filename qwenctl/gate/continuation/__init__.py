"""An answer that has begun and lost its server is finished by the next one: what is kept, asked, joined."""
