-- Notes that a gateway is alive. Stands alone: common.lua is about one team.
-- KEYS[1]: gptoss:gateways, ZSET gateway -> when it last said so, us. Made from it, in the same slot:
-- {gptoss:gateways}:epoch, the number of beats since the counters were as the ledger says.
-- ARGV: gateway, lease us, 1 where they are now.
-- Returns: how many have said so within the lease, the number of this beat or 0.

local EPOCH, KEEP_S = '{' .. KEYS[1] .. '}:epoch', 40 * 86400
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local lease = tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - lease))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(lease / 1000) + 1000))
local number = 0
if ARGV[3] == '1' or redis.call('EXISTS', EPOCH) == 1 then
  number = redis.call('INCR', EPOCH)
  redis.call('EXPIRE', EPOCH, KEEP_S)
end
return { redis.call('ZCARD', KEYS[1]), number }
