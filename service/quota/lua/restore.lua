-- Raises what was used to what the ledger says. Repeated, it does nothing.
-- ARGV: JSON of {day or month: {scope: tokens}}.
-- Returns: time us.

for label, scopes in pairs(cjson.decode(ARGV[1])) do
  local by_day = #label > 7
  local key = PREFIX .. (by_day and 'day:' or 'month:') .. label
  for scope, tokens in pairs(scopes) do
    local field = scope .. ':used'
    if tonumber(redis.call('HGET', key, field) or 0) < tokens then
      redis.call('HSET', key, field, int(tokens))
    end
  end
  if redis.call('TTL', key) == -1 then
    redis.call('EXPIRE', key, int(by_day and DAY_S + 2 * KEEP_DAY_S or 2 * KEEP_MONTH_S))
  end
end
return { clock() }
