-- Extends the leases of reservations that are still open.
-- ARGV: lease us, then ids, a thousand at most (Lua's stack is bounded).
-- Returns: time us.

local now = clock()
local due = int(now + tonumber(ARGV[1]))
local members = {}
for i = 2, #ARGV do
  members[2 * i - 3], members[2 * i - 2] = due, ARGV[i]
end
if #members > 0 then
  redis.call('ZADD', LEASES, 'XX', unpack(members))
  keep_team()
end
return { now }
