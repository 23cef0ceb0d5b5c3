-- Takes a reservation on all its limits, or on none.
-- ARGV: reservation as JSON, lease us, memory us.
-- Returns: time us, 1 where granted, levels (7 integers by scope), how many expired are untold.

local reservation = cjson.decode(ARGV[1])
local lease, memory = tonumber(ARGV[2]), tonumber(ARGV[3])
local tokens = reservation.prompt + reservation.output
local scopes, windows = reservation.scopes, reservation.windows

local function over(maximum, used, asked)
  maximum = limit(maximum)
  return maximum and used + asked > maximum
end

local function fits(limits, level)
  return not (over(limits.rpm, level[1], 1)
    or over(limits.tpm, level[2], tokens)
    or over(limits.concurrency, level[3], 1)
    or over(limits.daily_tokens, level[4] + level[5], tokens)
    or over(limits.monthly_tokens, level[6] + level[7], tokens))
end

local function known(id)
  return redis.call('ZSCORE', LEASES, id) or redis.call('ZSCORE', FINISHED, id)
end

local now = clock()
local untold = expire(now, memory)
local levels, rates = read_levels(scopes, windows, now)

local granted = not known(reservation.id)
for i, scope in ipairs(scopes) do
  granted = granted and fits(scope.limits, levels[i])
end

-- Puts a request and its estimate into the buckets of what is limited. Returns the marks as text.
local function hold_rates(scope, rates)
  local by_request, by_token = '', ''
  if rates.rpm then by_request = int(hold(rates.requests, 1)) end
  if rates.tpm then by_token = int(hold(rates.tokens, tokens)) end
  save_rates(scope, rates)
  return by_request .. ',' .. by_token .. ';'
end

if granted then
  local marks = {}
  count(reservation, 0, tokens, false)
  keep_windows(windows)
  for i, scope in ipairs(scopes) do
    local level, rate = levels[i], rates[i]
    redis.call('HINCRBY', OPEN, scope.name, 1)
    marks[i] = rate and hold_rates(scope, rate) or ',;'
    if rate and rate.rpm then level[1] = rate.requests.used end
    if rate and rate.tpm then level[2] = rate.tokens.used end
    level[3] = level[3] + 1
    level[5], level[7] = level[5] + tokens, level[7] + tokens
  end
  redis.call('HSET', RECORDS, reservation.id, table.concat(marks) .. '|' .. ARGV[1])
  redis.call('ZADD', LEASES, int(now + lease), reservation.id)
end
if granted then keep_team() end

return { now, granted and 1 or 0, levels, untold }
