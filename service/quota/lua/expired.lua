-- Forgets those that were told, and hands out others.
-- ARGV: ids that were told.
-- Returns: time us, reservations that expired (JSON), some at a time.

if #ARGV > 0 then redis.call('HDEL', UNTOLD, unpack(ARGV)) end
local found = redis.call('HSCAN', UNTOLD, 0, 'COUNT', SWEEP)[2]
local untold = {}
for i = 2, #found, 2 do
  untold[i / 2] = found[i]
end
return { clock(), untold }
