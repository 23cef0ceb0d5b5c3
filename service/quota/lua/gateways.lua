-- Notes that a gateway is alive. Stands alone: common.lua is about one team.
-- KEYS[1]: gptoss:gateways, ZSET gateway -> when it last said so, us. ARGV: gateway, lease us.
-- Returns: how many have said so within the lease.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local lease = tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - lease))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(lease / 1000) + 1000))
return redis.call('ZCARD', KEYS[1])
