-- A part of other scripts: adds entries to histories. A history is a sorted set, "<position>:<value>" by position, of
-- which the last `keep` stay. A note at position -1, "<dropped> <through>", says how many entries were dropped and up
-- to which position: what comes again from there changes nothing.
--
-- args[at..]   for each history: its time to live in milliseconds, keep, the number of its entries, and of each entry
--              its position and value
local function add_entries(key, args, at)
  local ttl, keep, count = tonumber(args[at]), tonumber(args[at + 1]), tonumber(args[at + 2])
  local note = redis.call('ZRANGEBYSCORE', key, -1, -1)[1]
  local dropped, through = string.match(note or '0 -1', '(%d+) (-?%d+)')
  dropped, through = tonumber(dropped), tonumber(through)
  local stop = at + 3 + 2 * count
  for i = at + 3, stop - 1, 2 do
    local position = args[i]
    if tonumber(position) > through then
      redis.call('ZREMRANGEBYSCORE', key, position, position)
      redis.call('ZADD', key, position, position .. ':' .. args[i + 1])
    end
  end
  local over = redis.call('ZCARD', key) - (note and 1 or 0) - keep
  if over > 0 then
    redis.call('ZREMRANGEBYSCORE', key, -1, -1)
    local last = redis.call('ZRANGE', key, over - 1, over - 1, 'WITHSCORES')[2]
    redis.call('ZREMRANGEBYRANK', key, 0, over - 1)
    redis.call('ZADD', key, -1, string.format('%d %s', dropped + over, last))
  end
  if redis.call('PTTL', key) < ttl then
    redis.call('PEXPIRE', key, ttl)
  end
  return stop
end

