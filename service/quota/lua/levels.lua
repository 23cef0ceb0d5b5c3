-- How much of each scope is used, less what was left unattended: a team that asks for nothing but its
-- use is not shown the reservations of a gateway that died.
-- ARGV: JSON of {scopes, windows}, memory us.
-- Returns: time us, levels (7 integers by scope), how many expired are untold.

local asked = cjson.decode(ARGV[1])
local now = clock()
local untold = expire(now, tonumber(ARGV[2]))
return { now, (read_levels(asked.scopes, asked.windows, now)), untold }
