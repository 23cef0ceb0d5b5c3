-- How much of each scope is used. Writes nothing.
-- ARGV: JSON of {scopes, windows}.
-- Returns: time us, levels (7 integers by scope).

local asked = cjson.decode(ARGV[1])
local now = clock()
return { now, (read_levels(asked.scopes, asked.windows, now)) }
