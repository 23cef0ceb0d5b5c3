-- What all scripts share; prepended to each of them. The specification is service/quota/counters.py
-- and bucket.py: the same operations at the same times give the same numbers.
--
-- Keys, all of one team and so, by the tag {team}, in one slot of a cluster:
--   gptoss:{team}:leases         ZSET  id of an open reservation -> when its lease ends, us
--   gptoss:{team}:finished       ZSET  id that was settled or expired -> when to forget it, us
--   gptoss:{team}:records        HASH  id, open -> "marks|JSON", expired -> "|JSON": the reservation
--   gptoss:{team}:untold         HASH  id, expired -> JSON, until a gateway has written it down
--   gptoss:{team}:open           HASH  scope -> open reservations
--   gptoss:{team}:rate:<scope>   HASH  two buckets: ra ru rh re rs of requests, ta tu th te ts of
--                                      tokens (at us, used, held, era, share)
--   gptoss:{team}:day:2026-08-22 and gptoss:{team}:month:2026-08
--                                HASH  <scope>:used, <scope>:reserved, tokens
--
-- KEYS[1] is the leases; the other names are made from it here. A cluster forbids that only for keys
-- of another slot. It cannot be done outside: the windows of a reservation that is found expired are
-- known only once its record has been read.
--
-- Invariants:
--   An id is in `leases` (open), or in `finished` with a record (expired) or without (settled).
--   A script checks everything before it writes anything; it writes all or, refusing, nothing.
--   All numbers are integers below 2^53, which Lua's doubles hold exactly. They are written by
--   `int`, since Lua itself would round to 14 digits.
--   Every key has a time to live, renewed whenever it is touched.

local PREFIX = string.sub(KEYS[1], 1, -7)
local LEASES, FINISHED = KEYS[1], PREFIX .. 'finished'
local RECORDS, OPEN = PREFIX .. 'records', PREFIX .. 'open'
local UNTOLD = PREFIX .. 'untold'

local MINUTE = 60000000 -- us
local WHOLE, LEAST = 67108864, 262144 -- shares: 2^26, 2^18
local DAY_S = 86400
local SWEEP = 100 -- unattended reservations that one call charges, and old ids that it forgets
local KEEP_TEAM_S = 40 * DAY_S
local KEEP_DAY_S = 40 * 3600
local KEEP_MONTH_S = 35 * DAY_S
local KEEP_RATE_S = DAY_S

local function int(number)
  return string.format('%.0f', number)
end

local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- A limit, or nil: JSON's null is not Lua's.
local function limit(value)
  if type(value) == 'number' then return value end
  return nil
end

-- Buckets: see bucket.py. The quotient of integers below 2^53 never rounds up to the next integer,
-- so that floor and ceil are exact.

local function drain(bucket, now, rate)
  local elapsed = math.max(now - bucket.at, 0)
  local whole = math.floor(elapsed / MINUTE)
  local part = math.floor((elapsed - whole * MINUTE) * rate / MINUTE)
  local drained = whole * rate + part
  if drained >= bucket.used then
    bucket.at, drained = now, bucket.used
  elseif now < bucket.at then
    bucket.at = now
  else
    bucket.at = bucket.at + whole * MINUTE + math.ceil(part * MINUTE / rate)
  end
  bucket.used = bucket.used - drained
  if bucket.held > bucket.used then
    bucket.share = math.floor(bucket.share * bucket.used / bucket.held)
    bucket.held = bucket.used
    if bucket.share < LEAST then
      bucket.era, bucket.share, bucket.held = bucket.era + 1, WHOLE, 0
    end
  end
end

-- Returns the mark.
local function hold(bucket, estimate)
  bucket.used = bucket.used + estimate
  bucket.held = bucket.held + estimate
  return bucket.era * 2 * WHOLE + bucket.share
end

local function settle(bucket, used, estimate, mark)
  local era, inside = math.floor(mark / (2 * WHOLE)), 0
  if era == bucket.era then
    inside = math.floor(estimate * bucket.share / (mark - era * 2 * WHOLE))
  end
  bucket.held = bucket.held - inside
  bucket.used = bucket.used + math.max(used - estimate, 0)
    - math.min(math.max(estimate - used, 0), inside)
end

-- The buckets of one scope with its rates; nil where it has none.
local function load_rates(scope, now)
  local rpm, tpm = limit(scope.limits.rpm), limit(scope.limits.tpm)
  if not rpm and not tpm then return nil end
  local raw = redis.call('HMGET', PREFIX .. 'rate:' .. scope.name,
    'ra', 'ru', 'rh', 're', 'rs', 'ta', 'tu', 'th', 'te', 'ts')
  local function bucket(i)
    if not raw[i] then return { at = now, used = 0, held = 0, era = 0, share = WHOLE } end
    return {
      at = tonumber(raw[i]), used = tonumber(raw[i + 1]), held = tonumber(raw[i + 2]),
      era = tonumber(raw[i + 3]), share = tonumber(raw[i + 4]),
    }
  end
  return { rpm = rpm, tpm = tpm, requests = bucket(1), tokens = bucket(6) }
end

local function drain_rates(rates, now)
  if rates.rpm then drain(rates.requests, now, rates.rpm) end
  if rates.tpm then drain(rates.tokens, now, rates.tpm) end
end

local function save_rates(scope, rates)
  local key, requests, tokens = PREFIX .. 'rate:' .. scope.name, rates.requests, rates.tokens
  redis.call('HSET', key,
    'ra', int(requests.at), 'ru', int(requests.used), 'rh', int(requests.held),
    're', int(requests.era), 'rs', int(requests.share),
    'ta', int(tokens.at), 'tu', int(tokens.used), 'th', int(tokens.held),
    'te', int(tokens.era), 'ts', int(tokens.share))
  -- A debt outlives the day that an idle bucket is kept for.
  local debt = 0
  if rates.rpm then debt = math.max(debt, requests.used * 60 / rates.rpm) end
  if rates.tpm then debt = math.max(debt, tokens.used * 60 / rates.tpm) end
  redis.call('EXPIRE', key, int(KEEP_RATE_S + math.min(math.ceil(debt), KEEP_TEAM_S)))
end

-- Puts what was used into the buckets of what is limited.
local function add_to_rates(scope, requests, tokens, now)
  local rates = load_rates(scope, now)
  if not rates then return end
  drain_rates(rates, now)
  if rates.rpm then rates.requests.used = rates.requests.used + requests end
  if rates.tpm then rates.tokens.used = rates.tokens.used + tokens end
  save_rates(scope, rates)
end

-- Puts what was used in the place of what was held by a reservation's marks.
local function settle_rates(scope, rates, marks, requests, used, estimate)
  if marks[1] then settle(rates.requests, requests, 1, marks[1]) end
  if marks[2] then settle(rates.tokens, used, estimate, marks[2]) end
  save_rates(scope, rates)
end

-- Windows.

local function day_key(windows) return PREFIX .. 'day:' .. windows.day.label end
local function month_key(windows) return PREFIX .. 'month:' .. windows.month.label end

local function keep_windows(windows)
  redis.call('EXPIREAT', day_key(windows), int(windows.day['end'] + KEEP_DAY_S))
  redis.call('EXPIREAT', month_key(windows), int(windows.month['end'] + KEEP_MONTH_S))
end

-- Adds to the counts of all scopes of a reservation, in both of its windows. `only_existing`: where
-- something was reserved before, a window that is gone has outlived its use, and stays gone.
local function count(reservation, used, reserved, only_existing)
  for _, key in ipairs({ day_key(reservation.windows), month_key(reservation.windows) }) do
    if not only_existing or redis.call('EXISTS', key) == 1 then
      for _, scope in ipairs(reservation.scopes) do
        if used ~= 0 then redis.call('HINCRBY', key, scope.name .. ':used', int(used)) end
        -- Also of nothing: it makes the window, in which what was really used is counted later.
        if reserved ~= 0 or not only_existing then
          redis.call('HINCRBY', key, scope.name .. ':reserved', int(reserved))
        end
      end
    end
  end
end

-- The seven integers of Level by scope, in its order, and the rates that they were read from.
local function read_levels(scopes, windows, now)
  local names, fields = {}, {}
  for i, scope in ipairs(scopes) do
    names[i] = scope.name
    fields[2 * i - 1], fields[2 * i] = scope.name .. ':used', scope.name .. ':reserved'
  end
  local levels, rates = {}, {}
  if #names == 0 then return levels, rates end
  local open = redis.call('HMGET', OPEN, unpack(names))
  local day = redis.call('HMGET', day_key(windows), unpack(fields))
  local month = redis.call('HMGET', month_key(windows), unpack(fields))
  for i, scope in ipairs(scopes) do
    local rate, requests, tokens = load_rates(scope, now), 0, 0
    if rate then
      drain_rates(rate, now)
      if rate.rpm then requests = rate.requests.used end
      if rate.tpm then tokens = rate.tokens.used end
    end
    rates[i] = rate or false
    levels[i] = {
      requests,
      tokens,
      tonumber(open[i] or 0),
      tonumber(day[2 * i - 1] or 0),
      tonumber(day[2 * i] or 0),
      tonumber(month[2 * i - 1] or 0),
      tonumber(month[2 * i] or 0),
    }
  end
  return levels, rates
end

-- Records.

local function keep_team()
  for _, key in ipairs({ LEASES, FINISHED, RECORDS, OPEN, UNTOLD }) do
    redis.call('EXPIRE', key, int(KEEP_TEAM_S))
  end
end

-- The reservation of a record, the marks of its scopes (two numbers or nil each), and its JSON.
local function parse(record)
  local bar = string.find(record, '|', 1, true)
  local marks, json = {}, string.sub(record, bar + 1)
  for by_request, by_token in string.gmatch(string.sub(record, 1, bar - 1), '(%d*),(%d*);') do
    marks[#marks + 1] = { tonumber(by_request), tonumber(by_token) }
  end
  return cjson.decode(json), marks, json
end

-- Frees the slot of an open reservation.
local function free(id, reservation)
  for _, scope in ipairs(reservation.scopes) do
    -- Below zero only if the server evicted the hash: then the count starts afresh.
    if redis.call('HINCRBY', OPEN, scope.name, -1) <= 0 then
      redis.call('HDEL', OPEN, scope.name)
    end
  end
  redis.call('ZREM', LEASES, id)
end

-- Charges unattended reservations what they had estimated and forgets the long finished, a bounded
-- number of each. Returns how many there are to tell.
local function expire(now, memory)
  local charged = false
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', int(now), 'LIMIT', 0, SWEEP)) do
    local record = redis.call('HGET', RECORDS, id)
    if record then
      local reservation, marks, json = parse(record)
      local estimate = reservation.prompt + reservation.output
      count(reservation, estimate, -estimate, true)
      free(id, reservation)
      for i, scope in ipairs(reservation.scopes) do
        -- As far as rates go it is used: by now it has drained.
        local rates = load_rates(scope, now)
        if rates then settle_rates(scope, rates, marks[i], 1, estimate, estimate) end
      end
      redis.call('HSET', RECORDS, id, '|' .. json)
      redis.call('ZADD', FINISHED, int(now + memory), id)
      redis.call('HSET', UNTOLD, id, json)
      charged = true
    else
      redis.call('ZREM', LEASES, id) -- the server evicted its record
    end
  end
  local old = redis.call('ZRANGEBYSCORE', FINISHED, '-inf', int(now), 'LIMIT', 0, SWEEP)
  if #old > 0 then
    redis.call('ZREM', FINISHED, unpack(old))
    redis.call('HDEL', RECORDS, unpack(old))
  end
  if charged then keep_team() end
  return redis.call('HLEN', UNTOLD)
end
