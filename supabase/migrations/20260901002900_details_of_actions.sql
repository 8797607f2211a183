-- What is asked of a position is read together with the positions of others, so no details may make it unreadable: of
-- those, only what an action can say is handed on, each as a short text.
create or replace function fillstream.held_document(p_position_id uuid) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  return (
    select jsonb_build_object(
      'position', fillstream.numbers_as_text(to_jsonb(position)),
      'entry', fillstream.order_document(entry),
      'orders', coalesce((
        select jsonb_agg(fillstream.order_document(working) order by working.created_at, working.id)
        from public.orders as working
        where working.position_id = position.id and working.purpose <> 'entry'
          and working.status in ('created', 'submitting', 'submitted', 'partially_filled', 'unknown')
      ), '[]'),
      'last_sale', (
        select fillstream.order_document(seller) from public.orders as seller
        where seller.position_id = position.id and seller.side = 'sell' and seller.filled_quantity > 0
        order by (
          select max(trade.executed_at) from public.trades as trade where trade.order_id = seller.id
        ) desc, seller.created_at desc
        limit 1
      ),
      'attempts', (
        select count(*) from public.orders as every where every.position_id = position.id and every.purpose <> 'entry'
      ),
      'actions', coalesce((
        select jsonb_agg(jsonb_build_object(
          'id', pending.id, 'position_id', pending.position_id, 'action', pending.action,
          'details', coalesce((
            select jsonb_object_agg(said.name, left(pending.details ->> said.name, 100))
            from unnest(array['stop_loss_price', 'take_profit_price', 'quantity']) as said (name)
            where jsonb_typeof(pending.details -> said.name) in ('string', 'number')
          ), '{}'),
          'reasoning', pending.reasoning,
          'order', (
            select fillstream.order_document(asked) from public.orders as asked where asked.action_id = pending.id
          )
        ) order by pending.seq)
        from public.position_actions as pending
        where pending.position_id = position.id and pending.status = 'pending'
      ), '[]'),
      'now_ms', fillstream.epoch_ms(clock_timestamp())
    )
    from public.positions as position
    join public.orders as entry on entry.position_id = position.id and entry.purpose = 'entry'
    where position.id = p_position_id
  );
end $$;

revoke execute on all functions in schema fillstream from public;
